//! What is wrong in a tree although the grammar knows nothing against it: literals that stand for nothing, reserved
//! names, arguments no macro can work with.

use super::LEVELS;
use super::grammar::{Form, Label, Rule};
use super::tree::{Child, Node, NodeId, Tree};
use crate::ast::{Finding, Place};
use crate::lexer::Tokens;
use crate::literal;
use crate::macros::ACCUMULATORS;
use kinds::names::is_cel_reserved;

/// As much of an expression as macros ask about their arguments.
#[derive(Debug, Clone, PartialEq)]
enum Sight {
    Ident(String),
    Select,
    List,
    Call,
    Comprehension,
    Other,
}

/// An expression and where findings about it are put.
#[derive(Debug, Clone)]
struct Seen {
    sight: Sight,
    at: Place,
}

struct Visit<'a> {
    tokens: &'a Tokens,
    tree: &'a Tree,
    binds: bool,
    findings: &'a mut Vec<Finding>,
    depth: usize,
    given_up: bool,
}

/// Adds what is found in a tree.
pub(super) fn visit(tokens: &Tokens, tree: &Tree, binds: bool, findings: &mut Vec<Finding>) {
    let mut visit = Visit {
        tokens,
        tree,
        binds,
        findings,
        depth: 0,
        given_up: false,
    };
    let expr = tree.node(Tree::ROOT).child(Label::Inner);
    visit.expr(expr);
}

fn seen(sight: Sight, at: Place) -> Seen {
    Seen { sight, at }
}

fn place(child: Option<Child>) -> Place {
    match child {
        Some(Child::Token(token)) => Place::At(token.start),
        Some(Child::Missing(at)) => Place::At(at),
        _ => Place::Nowhere,
    }
}

impl<'a> Visit<'a> {
    fn tell(&mut self, at: Place, what: impl Into<String>) -> Seen {
        if !self.given_up {
            self.findings.push(Finding::placed(at, what));
        }
        seen(Sight::Other, at)
    }

    fn text(&self, child: Option<Child>) -> String {
        match child {
            Some(Child::Token(token)) => self.tokens.text(token),
            _ => String::new(),
        }
    }

    /// The node itself, past all that only hold one other.
    fn inner(&self, mut node: Option<NodeId>) -> Option<&'a Node> {
        loop {
            let here = self.tree.node(node?);
            let holds = match here.rule {
                Rule::Expr | Rule::Or | Rule::And => here.one(Label::Operator).is_none(),
                Rule::Relation | Rule::Calc | Rule::Member => here.form == Form::None,
                Rule::Unary => here.form == Form::Operand,
                Rule::Primary => matches!(here.form, Form::Nested | Form::Literal),
                _ => false,
            };
            if !holds {
                return Some(here);
            }
            node = here.child(Label::Inner);
        }
    }

    fn expr(&mut self, node: Option<NodeId>) -> Seen {
        let Some(node) = self.inner(node) else {
            return seen(Sight::Other, Place::Before);
        };
        if self.given_up {
            return seen(Sight::Other, Place::Before);
        }
        let counted = matches!(node.rule, Rule::Expr | Rule::Relation | Rule::Calc | Rule::Member);
        self.depth += usize::from(counted);
        if self.depth > LEVELS {
            self.findings
                .push(Finding::nowhere("max recursion depth exceeded"));
            self.given_up = true;
        }
        let out = match node.rule {
            _ if self.given_up => seen(Sight::Other, Place::Before),
            Rule::Expr => {
                self.expr(node.child(Label::Inner));
                self.expr(node.child(Label::Then));
                self.expr(node.child(Label::Else));
                seen(Sight::Call, place(node.one(Label::Operator)))
            }
            Rule::Or => self.logic(node, "||"),
            Rule::And => self.logic(node, "&&"),
            Rule::Relation | Rule::Calc => match node.one(Label::Operator) {
                Some(operator @ Child::Token(_)) => {
                    self.expr(node.child(Label::Left));
                    self.expr(node.child(Label::Then));
                    seen(Sight::Call, place(Some(operator)))
                }
                _ => self.tell(Place::At(node.start), "operator not found"),
            },
            Rule::Unary => self.unary(node),
            Rule::Member => self.member(node),
            Rule::Primary => self.primary(node),
            Rule::Literal => self.literal(node),
            _ => seen(Sight::Other, Place::Before),
        };
        self.depth -= usize::from(counted);
        out
    }

    fn logic(&mut self, node: &Node, operator: &str) -> Seen {
        self.expr(node.child(Label::Inner));
        let operators: Vec<Child> = node.all(Label::Operator).collect();
        let operands = node.nodes(Label::Then);
        for i in 0..operators.len() {
            let Some(operand) = operands.get(i) else {
                let what = format!("unexpected character, wanted '{operator}'");
                return self.tell(Place::At(node.start), what);
            };
            self.expr(Some(*operand));
        }
        seen(Sight::Call, place(operators.get(operators.len() / 2).copied()))
    }

    fn unary(&mut self, node: &Node) -> Seen {
        let operators: Vec<Child> = node.all(Label::Operator).collect();
        match node.form {
            Form::Not | Form::Negate => {
                let operand = self.expr(node.child(Label::Inner));
                match operators.len() % 2 {
                    0 => operand,
                    _ => seen(Sight::Call, place(operators.first().copied())),
                }
            }
            _ => seen(Sight::Other, Place::At(node.start)),
        }
    }

    fn member(&mut self, node: &Node) -> Seen {
        let left = self.expr(node.child(Label::Left));
        let here = Place::At(node.start);
        let operator = node.one(Label::Operator);
        match node.form {
            Form::Select => {
                let (Some(name), Some(_)) = (node.child(Label::Name), operator) else {
                    return seen(Sight::Other, here);
                };
                let name = self.tree.node(name);
                self.field_name(name, Place::At(name.start));
                match node.one(Label::Optional) {
                    Some(_) => seen(Sight::Call, place(operator)),
                    None => seen(Sight::Select, place(operator)),
                }
            }
            Form::Index if operator.is_some() => {
                self.expr(node.child(Label::Then));
                seen(Sight::Call, place(operator))
            }
            Form::MemberCall if node.one(Label::Name).is_some() => {
                let name = self.text(node.one(Label::Name));
                let args = self.arguments(node);
                let at = place(node.one(Label::Open));
                match member_macro(&name, &left, &args, self.binds) {
                    Ok(sight) => seen(sight, at),
                    Err((at, what)) => self.tell(at, what),
                }
            }
            _ => seen(Sight::Other, here),
        }
    }

    /// Tells what is wrong with the name of a field, if anything.
    fn field_name(&mut self, name: &Node, at: Place) -> bool {
        let wrong = match name.form {
            Form::Name => return true,
            // Kubernetes has not switched it on.
            Form::QuotedName => "unsupported syntax: '`'",
            _ => "unsupported ident kind",
        };
        self.tell(at, wrong);
        false
    }

    fn arguments(&mut self, node: &Node) -> Vec<Seen> {
        match node.child(Label::Arguments) {
            Some(list) => {
                let args = self.tree.node(list).nodes(Label::Then);
                args.into_iter().map(|arg| self.expr(Some(arg))).collect()
            }
            None => Vec::new(),
        }
    }

    fn primary(&mut self, node: &Node) -> Seen {
        let here = Place::At(node.start);
        match node.form {
            Form::Ident | Form::Call => {
                let Some(name_child) = node.one(Label::Name) else {
                    return seen(Sight::Other, here);
                };
                let name = self.text(Some(name_child));
                if is_cel_reserved(&name) {
                    return self.tell(here, format!("reserved identifier: {name}"));
                }
                let at = place(Some(name_child));
                let name = match at == here {
                    true => name,
                    // A dot goes before.
                    false => format!(".{name}"),
                };
                if node.form == Form::Ident {
                    return seen(Sight::Ident(name), at);
                }
                let args = self.arguments(node);
                let open = place(node.one(Label::Open));
                match (name.as_str(), args.as_slice()) {
                    ("has", [arg]) if arg.sight != Sight::Select => {
                        self.tell(arg.at, "invalid argument to has() macro")
                    }
                    ("has", [_]) => seen(Sight::Select, open),
                    _ => seen(Sight::Call, open),
                }
            }
            Form::List => {
                if let Some(elements) = node.child(Label::Arguments) {
                    for element in self.tree.node(elements).nodes(Label::Then) {
                        self.expr(self.tree.node(element).child(Label::Inner));
                    }
                }
                seen(Sight::List, place(node.one(Label::Operator)))
            }
            Form::Map | Form::Message => {
                if let Some(list) = node.child(Label::Arguments) {
                    self.pairs(self.tree.node(list));
                }
                seen(Sight::Other, place(node.one(Label::Operator)))
            }
            _ => seen(Sight::Other, Place::Before),
        }
    }

    /// Entries of a map, or fields of a message, as far as they are whole.
    fn pairs(&mut self, list: &Node) {
        let (keys, values) = (list.nodes(Label::Key), list.nodes(Label::Then));
        let colons = list.all(Label::Colon).count();
        let fields = list.rule == Rule::Fields;
        let count = if fields { keys.len() } else { colons };
        for i in 0..count {
            let (Some(key), Some(value)) = (keys.get(i), values.get(i)) else {
                return;
            };
            if fields && i >= colons {
                return;
            }
            let key = self.tree.node(*key);
            if fields {
                let named = match key.child(Label::Name) {
                    Some(name) => self.field_name(self.tree.node(name), Place::At(list.start)),
                    None => {
                        self.tell(Place::At(list.start), "unsupported ident kind");
                        false
                    }
                };
                if !named {
                    continue;
                }
            } else {
                self.expr(key.child(Label::Inner));
            }
            self.expr(Some(*value));
        }
    }

    fn literal(&mut self, node: &Node) -> Seen {
        let at = Place::At(node.start);
        let mut text = self.text(node.one(Label::Inner));
        if let Some(Child::Token(_)) = node.one(Label::Sign) {
            text.insert(0, '-');
        }
        let wrong = match node.form {
            Form::None => return seen(Sight::Other, Place::Before),
            Form::Int if literal::int(&text).is_none() => Some("invalid int literal"),
            Form::Uint if literal::uint(&text).is_none() => Some("invalid uint literal"),
            Form::Double if literal::double(&text).is_none() => Some("invalid double literal"),
            Form::Text => literal::text(&text).err(),
            Form::Bytes => literal::bytes(&text).err(),
            _ => None,
        };
        match wrong {
            Some(what) => self.tell(at, what),
            None => seen(Sight::Other, at),
        }
    }
}

type Wrong = (Place, String);

/// What a call on a target becomes when it is a macro, or why it cannot be one; otherwise it is a call.
fn member_macro(name: &str, target: &Seen, args: &[Seen], binds: bool) -> Result<Sight, Wrong> {
    let simple = "argument must be a simple name";
    let identifier = "argument is not an identifier";
    match (name, args) {
        ("all" | "exists" | "exists_one" | "existsOne", [first, _]) => {
            variable(first, simple).map(|_| Sight::Comprehension)
        }
        ("map", [first, _] | [first, _, _]) | ("filter", [first, _]) => {
            variable(first, identifier).map(|_| Sight::Comprehension)
        }
        ("all" | "exists" | "exists_one" | "existsOne", [first, second, _])
        | (
            "transformList" | "transformMap" | "transformMapEntry",
            [first, second, _] | [first, second, _, _],
        ) => two_variables(first, second).map(|()| Sight::Comprehension),
        ("sortBy", [_, _]) if target.sight == Sight::Other => {
            let what =
                "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
            Err((target.at, what.into()))
        }
        ("sortBy", [first, _]) => variable(first, identifier).map(|_| Sight::Comprehension),
        ("optMap" | "optFlatMap", [first, _]) => {
            let what = format!("{name}() variable name must be a simple identifier");
            ident(first, &what).map(|_| Sight::Call)
        }
        ("bind", [first, _, _]) if binds && target.sight == Sight::Ident("cel".into()) => {
            let what = "cel.bind() variable names must be simple identifiers";
            ident(first, what).map(|_| Sight::Comprehension)
        }
        _ => Ok(Sight::Call),
    }
}

fn ident<'s>(seen: &'s Seen, otherwise: &str) -> Result<&'s str, Wrong> {
    match &seen.sight {
        Sight::Ident(name) => Ok(name),
        _ => Err((seen.at, otherwise.into())),
    }
}

fn variable<'s>(seen: &'s Seen, otherwise: &str) -> Result<&'s str, Wrong> {
    let name = ident(seen, otherwise)?;
    match ACCUMULATORS.contains(&name) {
        true => Err((
            seen.at,
            "iteration variable overwrites accumulator variable".into(),
        )),
        false => Ok(name),
    }
}

fn two_variables(first: &Seen, second: &Seen) -> Result<(), Wrong> {
    let simple = "argument must be a simple name";
    let (one, two) = (ident(first, simple)?, ident(second, simple)?);
    if one == two {
        return Err((second.at, format!("duplicate variable name: {one}")));
    }
    variable(first, simple)?;
    variable(second, simple)?;
    Ok(())
}
