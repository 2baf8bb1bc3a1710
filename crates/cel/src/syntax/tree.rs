//! The tree that a walk leaves, with holes where mistakes are.

use super::grammar::{Form, Label, Rule};
use crate::lexer::Token;

/// Index of a node in a [`Tree`].
pub(super) type NodeId = usize;

/// What a node is made of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Child {
    Token(Token),
    /// A token that ought to be there, and where.
    Missing(usize),
    Node(NodeId),
}

#[derive(Debug)]
pub(super) struct Node {
    pub rule: Rule,
    pub form: Form,
    pub start: usize,
    pub children: Vec<(Label, Child)>,
}

/// The tree of a text, with holes where mistakes are.
pub(super) struct Tree(pub Vec<Node>);

impl Tree {
    pub(super) const ROOT: NodeId = 0;

    pub(super) fn node(&self, node: NodeId) -> &Node {
        &self.0[node]
    }
}

impl Node {
    pub(super) fn all(&self, label: Label) -> impl Iterator<Item = Child> {
        let named = move |(own, _): &&(Label, Child)| *own == label;
        self.children.iter().filter(named).map(|(_, child)| *child)
    }

    pub(super) fn one(&self, label: Label) -> Option<Child> {
        self.all(label).next()
    }

    pub(super) fn nodes(&self, label: Label) -> Vec<NodeId> {
        let node = |child| match child {
            Child::Node(node) => Some(node),
            _ => None,
        };
        self.all(label).filter_map(node).collect()
    }

    pub(super) fn child(&self, label: Label) -> Option<NodeId> {
        self.nodes(label).first().copied()
    }
}
