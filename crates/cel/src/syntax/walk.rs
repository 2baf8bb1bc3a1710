//! A walk through the grammar along a text that goes on after mistakes.

use super::LEVELS;
use super::grammar::{Form, Label, RULES, Rule};
use super::network::{Fork, NETWORK, Network, SortSet, StateId, Step};
use super::predict::Predictor;
use super::stacks::{EMPTY, StackId};
use super::tree::{Child, Node, NodeId, Tree};
use crate::ast::Finding;
use crate::lexer::{Sort, Token, Tokens};
use std::collections::HashSet;

/// Attempts to go on after a mistake.
const ATTEMPTS: usize = 30;
/// Tokens skipped in one attempt.
const SKIPPED: usize = 256;
/// A rule that is being walked.
struct Frame {
    node: NodeId,
    rule: Rule,
    label: Label,
    /// The least rank of operators, of this rule or the one around that has ranks.
    rank: u8,
    /// Where the rule that called goes on.
    back: StateId,
    stack: StackId,
}

/// Why a rule cannot go on.
pub(super) enum Stumble {
    Mismatch,
    /// No way of a fork fits the tokens up to this one.
    NoWay(usize),
}

/// The walk is over, and nothing more is told.
pub(super) struct GivenUp;

pub(super) struct Walk<'t> {
    network: &'static Network,
    pub(super) tokens: &'t Tokens,
    predictor: Predictor,
    pub(super) at: usize,
    frames: Vec<Frame>,
    tree: Vec<Node>,
    pub(super) findings: Vec<Finding>,
    pub(super) told: usize,
    /// Pieces that are no token and were told.
    pub(super) junk: usize,
    pub(super) given_up: bool,
    pub(super) state: StateId,
    levels: [usize; RULES.len()],
    /// Since the last mistake nothing has fitted.
    pub(super) recovering: bool,
    attempts: usize,
    /// Where the last attempts to go on were made, and in which states.
    stuck: Option<(usize, HashSet<StateId>)>,
}

/// Walks along a text. There is no tree when the walk was given up.
pub(super) fn walk(tokens: &Tokens) -> (Vec<Finding>, Option<Tree>) {
    let mut walk = Walk {
        network: &NETWORK,
        tokens,
        predictor: Predictor::new(&NETWORK),
        at: 0,
        frames: Vec::new(),
        tree: Vec::new(),
        findings: Vec::new(),
        told: 0,
        junk: 0,
        given_up: false,
        state: 0,
        levels: [0; RULES.len()],
        recovering: false,
        attempts: 0,
        stuck: None,
    };
    walk.look(0);
    let mut here = Some(walk.enter(Rule::Start, Label::None, 0, 0));
    while let Some(state) = here {
        if walk.given_up {
            return (walk.findings, None);
        }
        here = match walk.advance(state) {
            Ok(next) => next,
            Err(stumble) => {
                walk.tell_stumble(&stumble);
                let _ = walk.recover();
                walk.leave()
            }
        };
    }
    match walk.given_up {
        true => (walk.findings, None),
        false => (walk.findings, Some(Tree(walk.tree))),
    }
}

impl Walk<'_> {
    pub(super) fn token(&self, ahead: usize) -> Token {
        let last = self.tokens.list.len() - 1;
        self.tokens.list[(self.at + ahead).min(last)]
    }

    fn sort(&self) -> Sort {
        self.token(0).sort
    }

    fn consume(&mut self) {
        if self.sort() != Sort::End {
            self.at += 1;
            self.look(self.at);
        }
    }

    fn enter(&mut self, rule: Rule, label: Label, rank: u8, back: StateId) -> StateId {
        let outer = self.frames.last();
        let has_ranks = matches!(rule, Rule::Relation | Rule::Calc | Rule::Member);
        let rank = match has_ranks {
            true => rank,
            false => outer.map_or(0, |frame| frame.rank),
        };
        let stack = match outer.map(|frame| frame.stack) {
            Some(below) => self.predictor.push(below, back),
            None => EMPTY,
        };
        self.tree.push(Node {
            rule,
            form: Form::None,
            start: self.token(0).start,
            children: Vec::new(),
        });
        self.frames.push(Frame {
            node: self.tree.len() - 1,
            rule,
            label,
            rank,
            back,
            stack,
        });
        self.levels[rule as usize] += 1;
        if self.levels[rule as usize] > LEVELS {
            self.give_up(format!("expression recursion limit exceeded: {LEVELS}"));
        }
        self.network.start(rule)
    }

    /// Goes back to the rule that called.
    fn leave(&mut self) -> Option<StateId> {
        let frame = self.frames.pop()?;
        self.levels[frame.rule as usize] -= 1;
        self.note(frame.label, Child::Node(frame.node));
        (!self.frames.is_empty()).then_some(frame.back)
    }

    fn note(&mut self, label: Label, child: Child) {
        if let (Some(frame), true) = (self.frames.last(), label != Label::None) {
            self.tree[frame.node].children.push((label, child));
        }
    }

    fn advance(&mut self, state: StateId) -> Result<Option<StateId>, Stumble> {
        let network = self.network;
        Ok(match network.step(state) {
            Step::Match { label, sorts, next } => {
                self.state = state;
                let child = match sorts.has(self.sort()) {
                    true => self.fit(),
                    false => self.mend(*next)?,
                };
                self.note(*label, child);
                Some(*next)
            }
            Step::Call {
                label,
                rule,
                rank,
                next,
            } => {
                self.state = state;
                Some(self.enter(*rule, *label, *rank, *next))
            }
            Step::Form(form, next) => {
                if let Some(frame) = self.frames.last() {
                    self.tree[frame.node].form = *form;
                }
                Some(*next)
            }
            Step::Grow { form, next, .. } => {
                self.grow(*form);
                Some(*next)
            }
            Step::Pass(next) => Some(*next),
            Step::Begin(next) => {
                self.enter_part(state)?;
                Some(*next)
            }
            Step::Again(entry) => {
                self.repeat_part(state);
                Some(self.decide(*entry)?)
            }
            Step::Fork { fork, .. } => {
                match fork {
                    Fork::Back => self.repeat_part(state),
                    _ => self.enter_part(state)?,
                }
                Some(self.decide(state)?)
            }
            Step::Stop => self.leave(),
        })
    }

    /// Puts a new node around the one that is being made.
    fn grow(&mut self, form: Form) {
        let Some(frame) = self.frames.last_mut() else {
            return;
        };
        let (left, rule) = (frame.node, frame.rule);
        frame.node = self.tree.len();
        let start = self.tree[left].start;
        self.tree.push(Node {
            rule,
            form,
            start,
            children: vec![(Label::Left, Child::Node(left))],
        });
    }

    fn decide(&mut self, fork: StateId) -> Result<StateId, Stumble> {
        let Step::Fork {
            fork: kind,
            ahead,
            ways,
        } = self.network.step(fork)
        else {
            return Ok(fork);
        };
        if !*ahead {
            let sort = self.sort();
            let fits = |way: &&StateId| self.network.next(**way).has(sort);
            return match (ways.iter().find(fits), kind, ways.last()) {
                (Some(way), Fork::Choice, _) => Ok(*way),
                (_, Fork::Choice, _) | (_, _, None) => Err(Stumble::NoWay(self.at)),
                (Some(way), ..) if *way == ways[0] => Ok(*way),
                (_, _, Some(past)) => Ok(*past),
            };
        }
        let (rank, stack) = self
            .frames
            .last()
            .map_or((0, EMPTY), |frame| (frame.rank, frame.stack));
        let way = self.predictor.way(fork, rank, stack, &self.tokens.list, self.at);
        self.look(self.predictor.seen);
        match way {
            Ok(way) => Ok(ways[way]),
            Err(token) => Err(Stumble::NoWay(token)),
        }
    }

    /// What fits is taken, and a mistake is over.
    fn fit(&mut self) -> Child {
        self.recovering = false;
        self.stuck = None;
        let token = self.token(0);
        self.consume();
        Child::Token(token)
    }

    /// Makes do with another token than the one that ought to be there.
    fn mend(&mut self, next: StateId) -> Result<Child, Stumble> {
        if self.attempt().is_err() {
            return Err(Stumble::Mismatch);
        }
        if self.leave_out() {
            return Ok(self.fit());
        }
        if !self.expected(next).has(self.sort()) {
            return Err(Stumble::Mismatch);
        }
        if !self.recovering {
            self.recovering = true;
            let (token, wanted) = (self.token(0), self.expected(self.state).shown());
            self.tell(token.start, &format!("missing {wanted} at {}", self.quote(token)));
        }
        let place = match self.sort() {
            Sort::End if self.at > 0 => self.tokens.list[self.at - 1].start,
            _ => self.token(0).start,
        };
        Ok(Child::Missing(place))
    }

    /// Leaves out a token if the one after it fits.
    fn leave_out(&mut self) -> bool {
        self.look(self.at + 1);
        if !self.expected(self.state).has(self.token(1).sort) {
            return false;
        }
        self.tell_extraneous();
        self.consume();
        self.recovering = false;
        self.stuck = None;
        true
    }

    /// Before a part of a rule: whether anything of it or after it can come.
    fn enter_part(&mut self, state: StateId) -> Result<(), Stumble> {
        self.state = state;
        match self.goes_on(state) || self.leave_out() {
            true => Ok(()),
            false => Err(Stumble::Mismatch),
        }
    }

    /// After a repeated part: skips what can neither repeat nor follow it.
    fn repeat_part(&mut self, state: StateId) {
        self.state = state;
        if self.goes_on(state) {
            return;
        }
        self.tell_extraneous();
        let wanted = self.expected(state).with(self.recovery());
        while self.sort() != Sort::End && !wanted.has(self.sort()) {
            self.consume();
        }
    }

    fn goes_on(&self, state: StateId) -> bool {
        let next = self.network.next(state);
        self.recovering || next.may_be_over() || next.has(self.sort())
    }

    /// Counts an attempt to go on.
    fn attempt(&mut self) -> Result<(), GivenUp> {
        if self.attempts == ATTEMPTS {
            let what = format!("error recovery attempt limit exceeded: {ATTEMPTS}");
            self.tell(self.token(0).start, &what);
            self.given_up = true;
            return Err(GivenUp);
        }
        self.attempts += 1;
        Ok(())
    }

    /// Skips to a token that can follow one of the rules that are being walked.
    fn recover(&mut self) -> Result<(), GivenUp> {
        self.attempt()?;
        let mut skipped = 0;
        let mut skip = |walk: &mut Self| {
            if skipped == SKIPPED {
                return Err(walk.give_up(format!(
                    "error recovery token lookahead limit exceeded: {SKIPPED}"
                )));
            }
            skipped += 1;
            walk.consume();
            Ok(())
        };
        let mut states = HashSet::new();
        if let Some((at, before)) = self.stuck.take() {
            if at == self.at && before.contains(&self.state) {
                // No step forward since: nothing ever fits here.
                skip(self)?;
            }
            states = before;
        }
        states.insert(self.state);
        self.stuck = Some((self.at, states));
        let wanted = self.recovery();
        while self.sort() != Sort::End && !wanted.has(self.sort()) {
            skip(self)?;
        }
        Ok(())
    }

    /// What can come next, counting what follows rules that may be over.
    pub(super) fn expected(&self, state: StateId) -> SortSet {
        let mut next = self.network.next(state);
        let mut all = next.tokens();
        for frame in self.frames.iter().skip(1).rev() {
            if !next.may_be_over() {
                break;
            }
            next = self.network.next(frame.back);
            all = all.with(next.tokens());
        }
        all
    }

    /// What can follow any of the rules that are being walked.
    fn recovery(&self) -> SortSet {
        let backs = self
            .frames
            .iter()
            .skip(1)
            .map(|frame| self.network.next(frame.back));
        backs.fold(SortSet::NONE, SortSet::with).tokens()
    }
}
