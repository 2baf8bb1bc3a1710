//! Why a text is no expression, as upstream tells it: every finding of a parser that goes on after a mistake.
//!
//! Upstream's parser is generated from a grammar. It looks ahead as far as a choice needs, and after a mistake it leaves
//! out a token, makes one up, or skips to where something can follow; what it says depends on each of these steps. So
//! the same grammar is walked here in the same way ([`walk`], [`predict`]), but only for texts the parser proper has
//! refused: those that are good never come here. Then the tree, as far as there is one, is looked at for mistakes the
//! grammar does not know ([`visit`]). Everything is bounded: levels, attempts to go on, findings.

mod front;
mod grammar;
mod network;
mod predict;
mod stacks;
mod told;
mod tree;
mod visit;
mod walk;

use crate::ast::Finding;
use crate::lexer::Tokens;

/// Levels of a rule within itself that upstream follows.
const LEVELS: usize = 250;

/// All that is wrong with a text, in the order it is noticed; nothing when upstream takes it for an expression.
pub(crate) fn findings(tokens: &Tokens, binds: bool) -> Vec<Finding> {
    let (mut findings, tree) = walk::walk(tokens);
    if let Some(tree) = tree {
        visit::visit(tokens, &tree, binds, &mut findings);
    }
    findings
}
