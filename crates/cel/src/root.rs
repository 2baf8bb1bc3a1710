//! Names with a dot before them.

use crate::ast::Kind;
use crate::check::Env;
use crate::library;

/// A dot before a name says that no variable of a macro is meant. It goes if there is anything else of the name.
pub(crate) fn leave(kind: &mut Kind, env: &Env) {
    let rest = |name: &str| name.strip_prefix('.').map(str::to_string);
    let (name, known) = match kind {
        Kind::Ident(name) => {
            let is = |name: String| env.find(&name).is_some() || library::named(&name).is_some();
            let known = rest(name).is_some_and(is);
            (name, known)
        }
        Kind::Message(name, _) => {
            let known = rest(name).is_some_and(|name| env.message(&name).is_some());
            (name, known)
        }
        Kind::Select { operand, field, .. } => match &mut operand.kind {
            Kind::Ident(head) => {
                let known = rest(head).is_some_and(|head| env.find(&format!("{head}.{field}")).is_some());
                (head, known)
            }
            _ => return,
        },
        Kind::Call { function, target, .. } => match target.as_deref_mut().map(|target| &mut target.kind) {
            None => {
                let known = rest(function).is_some_and(|function| env.knows(&function));
                (function, known)
            }
            Some(Kind::Ident(space)) => {
                let known = rest(space).is_some_and(|space| env.knows(&format!("{space}.{function}")));
                (space, known)
            }
            Some(_) => return,
        },
        _ => return,
    };
    if known {
        name.remove(0);
    }
}
