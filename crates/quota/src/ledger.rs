//! What a namespace uses of one quota: every object that counts has a line, and the sum of the lines stands beside them.
//! A look at it costs what has changed since the last look, however many objects there are.

use crate::amounts::{Amounts, add};
use crate::{scope, usage};
use cache::view::{GroupResource, View};
use kinds::quantity::Quantity;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// What is used of one quota.
pub struct Ledger {
    /// The quota itself: its scopes narrow what counts.
    quota: Value,
    /// What is counted, in order.
    names: Vec<String>,
    books: Vec<Book>,
}

/// The objects of one resource.
struct Book {
    resource: GroupResource,
    /// The revision of the resource up to which the lines are complete.
    upto: Option<u64>,
    /// By name of the object.
    lines: HashMap<String, Line>,
    /// Of all lines that time does not change.
    sum: Counts,
}

struct Line {
    version: Box<str>,
    counts: LineCounts,
}

enum LineCounts {
    /// The index of a name and the amount, for those of the names that the object uses.
    Fixed(Box<[(usize, Quantity)]>),
    /// Of an object that is going: its time alone may end what it counts.
    Going(Arc<Value>),
}

type Counts = Vec<Quantity>;

/// A write that was let through and may not be visible yet.
pub struct Pending<'a> {
    /// What is written.
    pub resource: &'a GroupResource,
    /// Its name.
    pub name: &'a str,
    /// As it will be.
    pub object: &'a Value,
    /// The resourceVersion that it replaces; `None` for a new object.
    pub replaces: Option<&'a str>,
}

impl Ledger {
    /// An empty one; [`Ledger::follow`] fills it.
    pub fn new(quota: &Value) -> Ledger {
        let hard = quota["spec"]["hard"].as_object().into_iter().flatten();
        let names: Vec<String> = hard.map(|(name, _)| name.clone()).collect();
        let book = |resource| Book {
            resource,
            upto: None,
            lines: HashMap::new(),
            sum: vec![Quantity::ZERO; names.len()],
        };
        Ledger {
            quota: quota.clone(),
            books: usage::resources(names.iter()).into_iter().map(book).collect(),
            names,
        }
    }

    /// Whether it counts what this state of the quota is about.
    pub fn is_of(&self, quota: &Value) -> bool {
        self.quota["spec"] == quota["spec"]
    }

    /// Whether objects of a resource can change what is used.
    pub fn counts(&self, resource: &GroupResource) -> bool {
        self.books.iter().any(|book| book.resource == *resource)
    }

    /// Catches up with the view.
    pub fn follow(&mut self, view: &dyn View) {
        let namespace = self.quota["metadata"]["namespace"].as_str().unwrap_or_default();
        for book in &mut self.books {
            // Read before the objects: what is newer than this is looked at once more the next time.
            let now = view.resource_revision(&book.resource);
            if book.upto == Some(now) {
                continue;
            }
            let known = book.upto.replace(now);
            let touched = known.and_then(|since| view.touched(&book.resource, namespace, since));
            match touched {
                Some(names) => {
                    for name in names {
                        book.strike(&name);
                        if let Some(object) = view.get(&book.resource, Some(namespace), &name) {
                            book.write(&self.quota, &self.names, object);
                        }
                    }
                }
                None => {
                    book.lines.clear();
                    book.sum.fill(Quantity::ZERO);
                    for object in view.list(&book.resource, Some(namespace)) {
                        book.write(&self.quota, &self.names, object);
                    }
                }
            }
        }
    }

    /// What is used of everything that the quota limits.
    pub fn used(&self) -> Amounts {
        let mut used: Amounts = self
            .names
            .iter()
            .map(|name| (name.clone(), Quantity::ZERO))
            .collect();
        for book in &self.books {
            for (name, amount) in self.names.iter().zip(&book.sum) {
                charge(&mut used, name, amount);
            }
            let going = book.lines.values().filter_map(|line| match &line.counts {
                LineCounts::Going(object) => Some(object),
                LineCounts::Fixed(_) => None,
            });
            for object in going {
                for (i, amount) in counts(&self.quota, &self.names, &book.resource, object) {
                    charge(&mut used, &self.names[i], &amount);
                }
            }
        }
        used
    }

    /// The quota's status. An amount that is what `shown`, the status until now, says stands as it was written.
    pub fn status(&self, shown: &Value) -> Value {
        let text = |(name, amount): (String, Quantity)| {
            let before = &shown["used"][&name];
            let same = Quantity::from_json(before).is_ok_and(|before| before == amount);
            let text = if same {
                before.clone()
            } else {
                json!(amount.to_string())
            };
            (name, text)
        };
        let used: Map<String, Value> = self.used().into_iter().map(text).collect();
        json!({"hard": self.quota["spec"]["hard"], "used": used})
    }

    /// What is used when these writes are done as well, each counted once whether it is visible by now or not.
    pub fn used_with<'a>(&self, pending: impl Iterator<Item = Pending<'a>>) -> Amounts {
        let mut used = self.used();
        for write in pending {
            let Some(book) = self.books.iter().find(|book| book.resource == *write.resource) else {
                continue;
            };
            let line = book.lines.get(write.name);
            let done = match (line, write.replaces) {
                (Some(line), Some(old)) => *line.version != *old,
                (Some(_), None) => true,
                (None, _) => false,
            };
            if done {
                continue;
            }
            let mut more = Amounts::new();
            for (i, amount) in counts(&self.quota, &self.names, &book.resource, write.object) {
                add(&mut more, &Amounts::from([(self.names[i].clone(), amount)]));
            }
            let replaced = line.map(|line| line.amounts(self, book)).unwrap_or_default();
            for (i, amount) in replaced {
                if let Some(sum) = more.get_mut(&self.names[i]) {
                    *sum = sum.sub(&amount);
                }
            }
            add(&mut used, &more);
        }
        used
    }
}

impl Line {
    fn amounts(&self, ledger: &Ledger, book: &Book) -> Vec<(usize, Quantity)> {
        match &self.counts {
            LineCounts::Fixed(amounts) => amounts.to_vec(),
            LineCounts::Going(object) => counts(&ledger.quota, &ledger.names, &book.resource, object),
        }
    }
}

impl Book {
    fn strike(&mut self, name: &str) {
        let Some(line) = self.lines.remove(name) else {
            return;
        };
        if let LineCounts::Fixed(amounts) = line.counts {
            for (i, amount) in amounts {
                self.sum[i] = self.sum[i].sub(&amount);
            }
        }
    }

    fn write(&mut self, quota: &Value, names: &[String], object: Arc<Value>) {
        let metadata = &object["metadata"];
        let text = |field: &str| metadata[field].as_str().unwrap_or_default();
        let (name, version) = (text("name").to_owned(), text("resourceVersion").into());
        let counts = match metadata["deletionTimestamp"].is_null() {
            true => {
                let amounts = counts(quota, names, &self.resource, &object);
                for (i, amount) in &amounts {
                    self.sum[*i] = self.sum[*i].add(amount);
                }
                LineCounts::Fixed(amounts.into())
            }
            false => LineCounts::Going(object),
        };
        self.lines.insert(name, Line { version, counts });
    }
}

/// Adds what is not zero: a sum keeps the form in which its first part was written.
fn charge(used: &mut Amounts, name: &str, amount: &Quantity) {
    if let Some(sum) = used.get_mut(name).filter(|_| !amount.is_zero()) {
        *sum = sum.add(amount);
    }
}

/// What an object uses of the names of a quota, if that is about it.
fn counts(
    quota: &Value,
    names: &[String],
    resource: &GroupResource,
    object: &Value,
) -> Vec<(usize, Quantity)> {
    if !scope::matches(quota, resource, object) {
        return Vec::new();
    }
    let usage = usage::usage_of(resource, object);
    let names = names.iter().enumerate();
    names
        .filter_map(|(i, name)| Some((i, *usage.get(name)?)))
        .collect()
}

#[cfg(test)]
mod tests;
