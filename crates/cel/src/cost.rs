//! What an expression costs at most, told before it is ever evaluated: lists, maps and texts are taken as long as their
//! declaration lets them be. Upstream refuses rules by this figure, so that no object of a user can make a write slow.
//!
//! The figures are those of cel-go's estimator. Where nothing bounds a value, the caller's [`Sizes`] says how large a
//! request lets it be; what only evaluation knows counts as short.

use crate::ast::{Comprehension, Expr, Kind, Walk};
use crate::room::with_room;
use crate::value::{List, Value};

/// One step from a variable to a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A field, by the name that expressions use.
    Field(String),
    /// Any element of a list, or any value of a map.
    Element,
    /// Any key of a map.
    Key,
}

/// What a value is, as far as costs depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// A text.
    Text,
    /// Bytes.
    Bytes,
    /// A list.
    List,
    /// Nobody knows.
    Any,
    /// Anything else.
    #[default]
    Other,
}

/// How large values can be.
pub trait Sizes {
    /// What stands at a place.
    fn sort(&self, variable: &str, steps: &[Step]) -> Sort;

    /// The most elements of a list or map, or bytes of a text, at a place; `None` where nobody knows.
    fn most(&self, variable: &str, steps: &[Step]) -> Option<u64>;
}

/// The size of what only evaluation knows, such as a number as text.
const UNKNOWN: u64 = 32;
/// The size of what upstream knows no bound of: texts of numbers, formatted ones, and what an optional value holds.
const UNBOUNDED: u64 = u64::MAX;
/// The longest pattern behind a named format.
const NAMED_FORMAT: f64 = 128.0;
/// What asking the authorizer costs.
const AUTHORIZER: u64 = 350_000;

/// What is known of a part of an expression.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Cost at most.
    cost: u64,
    /// Size at most, where the expression itself tells.
    size: Option<u64>,
    /// What the value is, where the expression itself tells.
    sort: Option<Sort>,
    /// Where the value comes from.
    place: Option<(String, Vec<Step>)>,
    /// What the elements are like, of a list that the expression makes.
    element: Option<Box<Known>>,
}

impl Known {
    fn new(cost: u64) -> Known {
        Known {
            cost,
            ..Known::default()
        }
    }

    fn sized(cost: u64, size: u64) -> Known {
        Known {
            size: Some(size),
            ..Known::new(cost)
        }
    }

    fn of(self, sort: Sort) -> Known {
        Known {
            sort: Some(sort),
            ..self
        }
    }

    /// A value of the same nature that is there already.
    fn at_no_cost(&self) -> Known {
        Known {
            cost: 0,
            ..self.clone()
        }
    }

    fn step(&self, step: Step, cost: u64) -> Known {
        let place = self.place.clone().map(|(variable, mut steps)| {
            steps.push(step.clone());
            (variable, steps)
        });
        let own = self.element.as_ref().filter(|_| step == Step::Element);
        match own {
            Some(element) => Known {
                cost,
                ..(**element).clone()
            },
            None => Known {
                place,
                ..Known::new(cost)
            },
        }
    }
}

/// The cost of an expression at most.
pub(crate) fn most(root: &Expr, sizes: &dyn Sizes) -> u64 {
    let mut estimator = Estimator {
        sizes,
        scope: Vec::new(),
    };
    estimator.visit(root).cost
}

struct Estimator<'s> {
    sizes: &'s dyn Sizes,
    /// Variables of macros, the innermost last.
    scope: Vec<(String, Known)>,
}

/// `size` times a factor, rounded up.
fn times(size: u64, factor: f64) -> u64 {
    // A float beyond the range becomes the largest number, which is what is wanted.
    (size as f64 * factor).ceil() as u64
}

fn sum(parts: impl IntoIterator<Item = u64>) -> u64 {
    parts.into_iter().fold(0, u64::saturating_add)
}

impl Estimator<'_> {
    fn size(&self, known: &Known) -> u64 {
        let of_place = || {
            let (variable, steps) = known.place.as_ref()?;
            self.sizes.most(variable, steps)
        };
        known.size.or_else(of_place).unwrap_or(UNKNOWN)
    }

    fn visit(&mut self, expr: &Expr) -> Known {
        with_room(|| self.known(expr))
    }

    fn known(&mut self, expr: &Expr) -> Known {
        match &expr.kind {
            Kind::Literal(value) => match literal_size(value) {
                Some(size) => Known {
                    sort: matches!(value, Value::String(_)).then_some(Sort::Text),
                    ..Known::sized(0, size)
                },
                None => Known::new(0),
            },
            Kind::Ident(name) => {
                let local = self.scope.iter().rev().find(|(n, _)| n == name);
                match local {
                    Some((_, known)) => Known {
                        cost: 1,
                        ..known.clone()
                    },
                    None => Known {
                        place: Some((name.clone(), Vec::new())),
                        ..Known::new(1)
                    },
                }
            }
            Kind::Select {
                operand, field, test, ..
            } => {
                let operand = self.visit(operand);
                // Upstream lets `has` cost nothing beyond what it looks into.
                match test {
                    true => Known::new(operand.cost),
                    false => operand.step(Step::Field(field.clone()), operand.cost.saturating_add(1)),
                }
            }
            Kind::Index { operand, index, .. } => {
                let (operand, index) = (self.visit(operand), self.visit(index));
                operand.step(Step::Element, sum([operand.cost, index.cost, 1]))
            }
            Kind::Call {
                function,
                target,
                args,
                ..
            } => {
                let mut all = Vec::new();
                all.extend(target.as_ref().map(|t| self.visit(t)));
                all.extend(args.iter().map(|a| self.visit(a)));
                self.call(function, &all)
            }
            Kind::List(items) => {
                let items: Vec<Known> = items.iter().map(|(item, _)| self.visit(item)).collect();
                let element = items.iter().max_by_key(|i| self.size(i)).map(Known::at_no_cost);
                Known {
                    element: element.map(Box::new),
                    ..Known::sized(
                        sum(items.iter().map(|i| i.cost)).saturating_add(10),
                        items.len() as u64,
                    )
                    .of(Sort::List)
                }
            }
            Kind::Map(entries) => {
                let costs = entries
                    .iter()
                    .flat_map(|(k, v, _)| [self.visit(k).cost, self.visit(v).cost]);
                Known::sized(sum(costs).saturating_add(30), entries.len() as u64)
            }
            Kind::Message(_, fields) => {
                Known::new(sum(fields.iter().map(|field| self.visit(&field.value).cost)).saturating_add(40))
            }
            Kind::Comprehension(comprehension) => self.comprehension(comprehension),
            Kind::Bind { name, init, body, .. } => {
                let init = self.visit(init);
                self.scope.push((name.clone(), init.at_no_cost()));
                let body = self.visit(body);
                self.scope.pop();
                Known {
                    cost: init.cost.saturating_add(body.cost),
                    ..body
                }
            }
        }
    }

    fn comprehension(&mut self, c: &Comprehension) -> Known {
        let range = self.visit(&c.range);
        let n = self.size(&range);
        // Upstream takes what is gone through, but comes from nowhere, for as large as `self`.
        let element = match range.place {
            Some(_) => range.step(Step::Element, 0),
            None => Known {
                place: Some(("self".to_owned(), Vec::new())),
                sort: range.element.as_ref().and_then(|element| element.sort),
                ..Known::default()
            },
        };
        // Of a map the first variable is the key, of a list an element (or its index).
        let key = range.step(Step::Key, 0);
        let first = match c.second {
            None if !self.is_sized(&key) => element.clone(),
            _ => key,
        };
        self.scope.push((c.first.clone(), first.clone()));
        if let Some(second) = &c.second {
            self.scope.push((second.clone(), element));
        }
        let filter = c.filter.as_ref().map_or(0, |f| self.visit(f).cost);
        let body = self.visit(&c.body);
        self.scope
            .truncate(self.scope.len() - 1 - usize::from(c.second.is_some()));
        // Of each walk: what comes before, what each element costs beside the body, what comes after.
        let (before, each, after) = match c.walk {
            Walk::All => (0, 3, 1),
            Walk::Exists => (0, 4, 1),
            Walk::ExistsOne => (0, 2, 2),
            Walk::Map | Walk::TransformList | Walk::SortBy => (10, 12, 1),
            Walk::Filter => (10, 13, 1),
            Walk::TransformMap | Walk::TransformMapEntry => (30, 32, 1),
        };
        let loops = n.saturating_mul(sum([each, filter, body.cost]));
        let cost = sum([range.cost, before, loops, after]);
        match c.walk {
            Walk::All | Walk::Exists | Walk::ExistsOne => Known::new(cost),
            Walk::Filter => Known {
                element: Some(Box::new(first)),
                ..Known::sized(cost, n).of(Sort::List)
            },
            Walk::TransformMap | Walk::TransformMapEntry => Known {
                element: Some(Box::new(body.at_no_cost())),
                ..Known::sized(cost, n)
            },
            _ => Known {
                element: Some(Box::new(body.at_no_cost())),
                ..Known::sized(cost, n).of(Sort::List)
            },
        }
    }

    fn call(&mut self, function: &str, args: &[Known]) -> Known {
        let costs = sum(args.iter().map(|a| a.cost));
        let size = |i: usize| args.get(i).map_or(0, |a| self.size(a));
        let add = |own: u64| costs.saturating_add(own);
        match function {
            "_&&_" | "_||_" => Known::new(costs),
            "_?_:_" => {
                let [condition, yes, no] = args else {
                    return Known::new(costs);
                };
                let larger = if self.size(yes) >= self.size(no) { yes } else { no };
                Known {
                    cost: condition.cost.saturating_add(yes.cost.max(no.cost)),
                    ..larger.clone()
                }
            }
            "_==_" | "_!=_" => {
                let sizes = args.iter().map(|a| self.compared(a));
                Known::new(add(times(sizes.min().unwrap_or(1), 0.1)))
            }
            "_<_" | "_<=_" | "_>_" | "_>=_" => {
                let sized = args.iter().all(|a| self.is_sized(a));
                Known::new(add(if sized {
                    times(size(0).min(size(1)), 0.1).max(1)
                } else {
                    1
                }))
            }
            "_+_" if args.iter().any(|a| self.sort(a) == Sort::List) => Known {
                element: args.iter().find_map(|a| a.element.clone()),
                ..Known::sized(add(1), size(0).saturating_add(size(1))).of(Sort::List)
            },
            "_+_" if args.len() == 2 && args.iter().any(|a| self.is_sized(a)) => {
                let total = size(0).saturating_add(size(1));
                Known::sized(add(times(total, 0.1).max(1)), total).of(Sort::Text)
            }
            // What is of any type is as large as what it was made of.
            "dyn" => Known {
                cost: add(1),
                sort: Some(Sort::Any),
                ..args.first().cloned().unwrap_or_default()
            },
            "@in" => {
                // A map is asked at once, a list is gone through.
                let is_map = |of: &Known| self.is_sized(&of.step(Step::Key, 0));
                let own = match args.get(1).is_some_and(is_map) {
                    true => 1,
                    false => size(1).max(1),
                };
                Known::new(add(own))
            }
            "contains" => Known::new(add(times(size(0), 0.1).saturating_mul(times(size(1), 0.1)))),
            "startsWith" | "endsWith" => Known::new(add(times(size(1), 0.1))),
            "matches" | "find" | "findAll" => {
                let text = times(size(0).saturating_add(1), 0.1);
                let own = text.saturating_mul(times(size(1), 0.25));
                Known::sized(add(own), size(0))
            }
            "replace" => Known::sized(add(times(size(0), 0.2)), size(0)).of(Sort::Text),
            "split" => Known::sized(add(times(size(0), 0.2)), size(0)).of(Sort::List),
            "join" => {
                let element = args.first().map_or(0, |list| self.element_size(list));
                let separators = size(0).saturating_sub(1).saturating_mul(size(1));
                let separators = if args.len() > 1 { separators } else { 0 };
                let long = size(0).saturating_mul(element).saturating_add(separators);
                Known::sized(add(times(long, 0.1)), long).of(Sort::Text)
            }
            "lowerAscii" | "upperAscii" | "trim" | "substring" | "reverse" => {
                let own = times(size(0), 0.1).max(1);
                let sort = args.first().map(|a| self.sort(a)).unwrap_or_default();
                Known::sized(add(own), size(0)).of(sort)
            }
            // Of a text, upstream does not know that it stays as long as it is.
            "string" => match args.first().map(|a| self.sort(a)) {
                Some(Sort::Bytes | Sort::Any) => {
                    Known::sized(add(times(size(0), 0.1)), size(0)).of(Sort::Text)
                }
                _ => Known::sized(add(1), UNBOUNDED).of(Sort::Text),
            },
            "bytes" => Known::sized(add(times(size(0), 0.1)), size(0).saturating_mul(4)).of(Sort::Bytes),
            "format" | "value" | "orValue" => Known::sized(add(1), UNBOUNDED),
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => {
                let Some(target) = args.first() else {
                    return Known::new(add(1));
                };
                let own = match self.sort(target) {
                    Sort::Text => times(size(0), 0.1),
                    // Texts are gone through to be compared.
                    _ if self.holds_texts(target) => {
                        let each = times(self.element_size(target), 0.1).saturating_add(1);
                        size(0).saturating_mul(each)
                    }
                    _ => size(0),
                };
                Known::new(add(own))
            }
            // Addresses have up to sixteen bytes; a text is read first.
            "containsIP" | "containsCIDR" => {
                let read = match args.get(1).map(|a| self.sort(a)) {
                    Some(Sort::Text | Sort::Any) => times(size(1), 0.1),
                    _ => 0,
                };
                let compared = if function == "containsIP" { 4 } else { 7 };
                Known::new(add(compared + read))
            }
            "sort" | "distinct" => Known {
                element: args.first().map(|a| Box::new(a.step(Step::Element, 0))),
                ..Known::sized(add(size(0).saturating_mul(size(0))), size(0))
            },
            "sets.contains" | "sets.intersects" | "sets.equivalent" => {
                Known::new(add(size(0).saturating_mul(size(1)).saturating_add(1)))
            }
            "validate" => Known::new(add(times(times(size(1), 0.1), NAMED_FORMAT * 0.25))),
            "check" => Known::new(add(AUTHORIZER)),
            "url" | "quantity" | "isQuantity" | "ip" | "isIP" | "cidr" | "isCIDR" | "semver" | "isSemver" => {
                Known::new(add(times(size(0), 0.1).max(1)))
            }
            _ => Known::new(add(1)),
        }
    }

    /// What a value is.
    fn sort(&self, known: &Known) -> Sort {
        let of_place = || {
            let (variable, steps) = known.place.as_ref()?;
            Some(self.sizes.sort(variable, steps))
        };
        known.sort.or_else(of_place).unwrap_or_default()
    }

    /// The size of the elements of a list; of one that comes from nowhere, upstream knows none.
    fn element_size(&self, list: &Known) -> u64 {
        match list.place {
            Some(_) => self.size(&list.step(Step::Element, 0)),
            None => UNBOUNDED,
        }
    }

    /// Whether the elements of a list are texts or bytes.
    fn holds_texts(&self, list: &Known) -> bool {
        let element = list.step(Step::Element, 0);
        matches!(self.sort(&element), Sort::Text | Sort::Bytes)
    }

    /// The size of a value that is compared with another: of what is declared without one, nothing.
    fn compared(&self, known: &Known) -> u64 {
        match &known.place {
            _ if self.is_sized(known) => self.size(known),
            Some(_) => 0,
            None => 1,
        }
    }

    /// Whether a value has a length that something is known of.
    fn is_sized(&self, known: &Known) -> bool {
        let of_place = || {
            let (variable, steps) = known.place.as_ref()?;
            self.sizes.most(variable, steps)
        };
        known.size.is_some() || of_place().is_some()
    }
}

fn literal_size(value: &Value<'_>) -> Option<u64> {
    match value {
        Value::String(_) => value.as_str().map(|s| s.len() as u64),
        Value::List(list) => Some(List::len(list) as u64),
        Value::Map(map) => Some(map.len() as u64),
        _ => None,
    }
}
