//! The grammar as a network of states, and which tokens can come next in each.

use super::grammar::{Form, Label, Part, RULES, Rule};
use crate::lexer::Sort;
use std::sync::LazyLock;

/// Index of a state.
pub(super) type StateId = u16;

/// A set of kinds of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SortSet(u64);

impl SortSet {
    pub(super) const NONE: SortSet = SortSet(0);
    /// Says of what can come next that the rule may be over.
    const OVER: u64 = 1 << 63;

    fn of(sorts: &[Sort]) -> SortSet {
        SortSet(sorts.iter().fold(0, |bits, sort| bits | (1 << *sort as u8)))
    }

    pub(super) fn has(self, sort: Sort) -> bool {
        self.0 & (1 << sort as u8) != 0
    }

    pub(super) fn may_be_over(self) -> bool {
        self.0 & SortSet::OVER != 0
    }

    pub(super) fn with(self, other: SortSet) -> SortSet {
        SortSet(self.0 | other.0)
    }

    /// Only the tokens.
    pub(super) fn tokens(self) -> SortSet {
        SortSet(self.0 & !SortSet::OVER)
    }

    /// As messages show it.
    pub(super) fn shown(self) -> String {
        let names: Vec<&str> = Sort::NAMES
            .iter()
            .filter(|(sort, _)| self.has(*sort))
            .map(|(_, name)| *name)
            .collect();
        match names.as_slice() {
            [] => "{}".into(),
            [one] => (*one).into(),
            _ => format!("{{{}}}", names.join(", ")),
        }
    }
}

/// What happens in a state.
#[derive(Debug)]
pub(super) enum Step {
    Match {
        label: Label,
        sorts: SortSet,
        next: StateId,
    },
    Call {
        label: Label,
        rule: Rule,
        rank: u8,
        next: StateId,
    },
    /// The node is known to be of a form.
    Form(Form, StateId),
    /// A left-recursive node grows around what there is, if its rank is high enough.
    Grow {
        rank: u8,
        form: Form,
        next: StateId,
    },
    /// A part is over. It has a state of its own for what ends in it, and for nothing else.
    Pass(StateId),
    /// The way into something that comes at least once.
    Begin(StateId),
    /// The way back to a loop.
    Again(StateId),
    Fork {
        fork: Fork,
        ahead: bool,
        ways: Vec<StateId>,
    },
    Stop,
}

/// What is decided in a fork.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fork {
    /// The first way or past it.
    Optional,
    /// Into a loop or past it.
    Loop,
    /// Into the loop of a left-recursive rule or past it.
    GrowLoop,
    /// Into a loop once more or past it.
    Back,
    /// One of several ways.
    Choice,
}

/// The states of all rules.
pub(super) struct Network {
    pub steps: Vec<Step>,
    /// The rule each state belongs to.
    pub rules: Vec<Rule>,
    /// What can come next in each state, as far as its rule goes.
    pub next: Vec<SortSet>,
    /// Per rule: its first state, and the states that follow its calls, with whether a call is of any rank.
    starts: Vec<StateId>,
    callers: Vec<Vec<(StateId, bool)>>,
    /// States that follow calls of a rule by itself.
    pub tails: Vec<bool>,
}

/// The network, made when first asked for.
pub(super) static NETWORK: LazyLock<Network> = LazyLock::new(Network::new);

impl Network {
    fn new() -> Network {
        let mut network = Network {
            steps: Vec::new(),
            rules: Vec::new(),
            next: Vec::new(),
            starts: Vec::new(),
            callers: vec![Vec::new(); RULES.len()],
            tails: Vec::new(),
        };
        for (rule, parts) in RULES {
            let stop = network.add(rule, Step::Stop);
            let end = network.add(rule, Step::Pass(stop));
            let start = network.sequence(rule, parts, end);
            network.starts.push(start);
        }
        network.tails = vec![false; network.steps.len()];
        for (at, step) in network.steps.iter().enumerate() {
            if let Step::Call { rule, rank, next, .. } = step {
                network.callers[*rule as usize].push((*next, *rank == 0));
                network.tails[usize::from(*next)] |= network.rules[at] == *rule && *rank > 0;
            }
        }
        network.next = vec![SortSet::NONE; network.steps.len()];
        // Sets grow until nothing changes.
        while network.grow_next() {}
        network
    }

    fn add(&mut self, rule: Rule, step: Step) -> StateId {
        self.steps.push(step);
        self.rules.push(rule);
        (self.steps.len() - 1) as StateId
    }

    /// Adds the states of some parts that lead to a state, and tells the first.
    fn sequence(&mut self, rule: Rule, parts: &[Part], after: StateId) -> StateId {
        parts
            .iter()
            .rev()
            .fold(after, |after, part| self.part(rule, part, after))
    }

    fn part(&mut self, rule: Rule, part: &Part, after: StateId) -> StateId {
        let alternatives = |network: &mut Network, ways: &[(Form, &[Part])]| -> Vec<StateId> {
            let end = network.add(rule, Step::Pass(after));
            ways.iter()
                .map(|(form, parts)| {
                    let first = network.sequence(rule, parts, end);
                    network.add(rule, Step::Form(*form, first))
                })
                .collect()
        };
        let fork = |fork, ahead, ways| Step::Fork { fork, ahead, ways };
        match part {
            Part::Token(label, sorts) => {
                let (label, sorts) = (*label, SortSet::of(sorts));
                self.add(
                    rule,
                    Step::Match {
                        label,
                        sorts,
                        next: after,
                    },
                )
            }
            Part::Rule(label, called, rank) => {
                let (label, called, rank) = (*label, *called, *rank);
                self.add(
                    rule,
                    Step::Call {
                        label,
                        rule: called,
                        rank,
                        next: after,
                    },
                )
            }
            Part::Optional(parts) => {
                let end = self.add(rule, Step::Pass(after));
                let way = self.sequence(rule, parts, end);
                self.add(rule, fork(Fork::Optional, false, vec![way, after]))
            }
            Part::Many(parts) | Part::ManyAhead(parts) => {
                let ahead = matches!(part, Part::ManyAhead(_));
                let entry = self.add(rule, Step::Stop);
                let back = self.add(rule, Step::Again(entry));
                let way = self.sequence(rule, parts, back);
                self.steps[usize::from(entry)] = fork(Fork::Loop, ahead, vec![way, after]);
                entry
            }
            Part::Some(parts) | Part::SomeAhead(parts) => {
                let ahead = matches!(part, Part::SomeAhead(_));
                let back = self.add(rule, Step::Stop);
                let way = self.sequence(rule, parts, back);
                self.steps[usize::from(back)] = fork(Fork::Back, ahead, vec![way, after]);
                self.add(rule, Step::Begin(way))
            }
            Part::Choice(ways) => {
                let ways = alternatives(self, ways);
                self.add(rule, fork(Fork::Choice, false, ways))
            }
            Part::ChoiceAhead(ways) => {
                let ways = alternatives(self, ways);
                self.add(rule, fork(Fork::Choice, true, ways))
            }
            Part::Grow(ways) => {
                let entry = self.add(rule, Step::Stop);
                let back = self.add(rule, Step::Again(entry));
                let mut firsts = Vec::new();
                for (rank, form, parts) in *ways {
                    let next = self.sequence(rule, parts, back);
                    let (rank, form) = (*rank, *form);
                    firsts.push(self.add(rule, Step::Grow { rank, form, next }));
                }
                let block = match firsts.as_slice() {
                    [one] => *one,
                    _ => self.add(rule, fork(Fork::Choice, true, firsts)),
                };
                self.steps[usize::from(entry)] = fork(Fork::GrowLoop, true, vec![block, after]);
                entry
            }
        }
    }

    fn grow_next(&mut self) -> bool {
        let mut changed = false;
        for at in 0..self.steps.len() {
            let of = |state: &StateId| self.next[usize::from(*state)];
            let set = match &self.steps[at] {
                Step::Match { sorts, .. } => *sorts,
                Step::Call { rule, next, .. } => {
                    let called = of(&self.start(*rule));
                    match called.may_be_over() {
                        true => called.tokens().with(of(next)),
                        false => called,
                    }
                }
                Step::Form(_, next)
                | Step::Grow { next, .. }
                | Step::Pass(next)
                | Step::Begin(next)
                | Step::Again(next) => of(next),
                Step::Fork { ways, .. } => ways.iter().fold(SortSet::NONE, |set, way| set.with(of(way))),
                Step::Stop => SortSet(SortSet::OVER),
            };
            changed |= set != self.next[at];
            self.next[at] = set;
        }
        changed
    }

    pub(super) fn step(&self, state: StateId) -> &Step {
        &self.steps[usize::from(state)]
    }

    pub(super) fn rule(&self, state: StateId) -> Rule {
        self.rules[usize::from(state)]
    }

    pub(super) fn next(&self, state: StateId) -> SortSet {
        self.next[usize::from(state)]
    }

    pub(super) fn start(&self, rule: Rule) -> StateId {
        self.starts[rule as usize]
    }

    /// States that follow the calls of a rule, each with whether the call takes operators of any rank.
    pub(super) fn callers(&self, rule: Rule) -> &[(StateId, bool)] {
        &self.callers[rule as usize]
    }
}
