//! Which way a fork is to be taken, looking ahead as far as it takes.
//!
//! All ways are followed at once, token by token, until one is left. First without regard to where the rule was called
//! from, which serves every call alike and is remembered; when that leaves several ways alike, again with the calls that
//! led here. What matters is not only the way: when no way goes on, the mistake is told at that token and for the whole
//! of what was looked at.

use super::front::{
    Front, Head, Trail, inner_first, one_best_way, only_way, some_state_has_one_way, ways_of_places,
};
use super::grammar::Rule;
use super::network::{Fork, Network, StateId, Step};
use super::stacks::{EMPTY, StackId, Stacks};
use crate::lexer::{Sort, Token};
use std::collections::{HashMap, HashSet};

/// States followed at once at most; no text reaches that.
const CROWD: usize = 5000;

/// What is known after some tokens.
struct Known {
    front: Vec<(Head, Trail)>,
    verdict: Verdict,
    after: HashMap<Sort, Option<usize>>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Verdict {
    Open,
    Way(u8),
    /// Several ways cannot be told apart without the calls.
    Alike,
}

/// What is followed, and under which terms.
#[derive(Clone, Copy)]
struct Terms {
    /// With the calls that led to the fork.
    full: bool,
    /// The rule of the fork, if it is that of the loop of a left-recursive rule.
    grown: Option<Rule>,
    /// The rank operators must have.
    rank: u8,
    /// Ranks count, being those of the rule of the fork.
    ranked: bool,
    /// The end of the text can be passed.
    at_end: bool,
}

/// A place on the way through the network.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Walker {
    head: Head,
    stack: StackId,
    out: bool,
    freed: bool,
    /// Calls made from the rule of the fork; less than none once it was left.
    depth: i32,
}

/// Decides forks of one text.
pub(super) struct Predictor {
    network: &'static Network,
    stacks: Stacks,
    known: Vec<Known>,
    begins: HashMap<(StateId, u8), usize>,
    same: HashMap<Vec<(Head, Trail)>, usize>,
    /// The furthest token that was looked at.
    pub seen: usize,
}

impl Predictor {
    pub(super) fn new(network: &'static Network) -> Predictor {
        Predictor {
            network,
            stacks: Stacks::new(),
            known: Vec::new(),
            begins: HashMap::new(),
            same: HashMap::new(),
            seen: 0,
        }
    }

    pub(super) fn push(&mut self, below: StackId, back: StateId) -> StackId {
        self.stacks.push(below, back)
    }

    /// The way to take in a fork, or the token at which no way goes on.
    pub(super) fn way(
        &mut self,
        fork: StateId,
        rank: u8,
        stack: StackId,
        tokens: &[Token],
        at: usize,
    ) -> Result<usize, usize> {
        let grows = matches!(
            self.network.step(fork),
            Step::Fork {
                fork: Fork::GrowLoop,
                ..
            }
        );
        let terms = Terms {
            full: false,
            grown: grows.then(|| self.network.rule(fork)),
            rank,
            ranked: true,
            at_end: false,
        };
        let mut here = self.begin(fork, terms);
        let mut offset = at;
        loop {
            let sort = self.look(tokens, offset);
            let Some(next) = self.advance(here, sort, terms) else {
                let front = &self.known[here].front;
                return self.finished(front, rank).ok_or(offset);
            };
            match self.known[next].verdict {
                Verdict::Way(way) => return Ok(usize::from(way)),
                Verdict::Alike => return self.way_with_calls(fork, terms, stack, tokens, at),
                Verdict::Open => here = next,
            }
            offset += usize::from(sort != Sort::End);
        }
    }

    fn look(&mut self, tokens: &[Token], at: usize) -> Sort {
        self.seen = self.seen.max(at);
        tokens.get(at).map_or(Sort::End, |token| token.sort)
    }

    /// What is known before the first token.
    fn begin(&mut self, fork: StateId, terms: Terms) -> usize {
        let key = (fork, if terms.grown.is_some() { terms.rank } else { 0 });
        if let Some(known) = self.begins.get(&key) {
            return *known;
        }
        let mut front = self.start(fork, EMPTY, terms);
        if terms.grown.is_some() {
            front = inner_first(front, terms.rank);
        }
        let verdict = self.judge(&front);
        let known = self.remember(front, verdict);
        self.begins.insert(key, known);
        known
    }

    fn remember(&mut self, front: Front, verdict: Verdict) -> usize {
        let front: Vec<(Head, Trail)> = front.into_iter().collect();
        if let Some(known) = self.same.get(&front) {
            return *known;
        }
        self.same.insert(front.clone(), self.known.len());
        self.known.push(Known {
            front,
            verdict,
            after: HashMap::new(),
        });
        self.known.len() - 1
    }

    /// What is known one token on, if anything goes on.
    fn advance(&mut self, here: usize, sort: Sort, terms: Terms) -> Option<usize> {
        if let Some(next) = self.known[here].after.get(&sort) {
            return *next;
        }
        let front = self.known[here].front.clone();
        let reached = self.reach(&front, sort, terms);
        let next = match reached.is_empty() {
            true => None,
            false => {
                let verdict = self.judge(&reached);
                Some(self.remember(reached, verdict))
            }
        };
        self.known[here].after.insert(sort, next);
        next
    }

    fn judge(&self, front: &Front) -> Verdict {
        if let Some(way) = only_way(front) {
            return Verdict::Way(way);
        }
        if front.len() > CROWD {
            return Verdict::Way(front.keys().map(|head| head.way).min().unwrap_or(0));
        }
        let stopped = front.keys().all(|head| self.stops(head.state));
        let conflicts = ways_of_places(front).iter().any(|ways| ways.len() > 1);
        match stopped || (conflicts && !some_state_has_one_way(front)) {
            true => Verdict::Alike,
            false => Verdict::Open,
        }
    }

    fn stops(&self, state: StateId) -> bool {
        matches!(self.network.step(state), Step::Stop)
    }

    fn way_with_calls(
        &mut self,
        fork: StateId,
        terms: Terms,
        stack: StackId,
        tokens: &[Token],
        at: usize,
    ) -> Result<usize, usize> {
        let terms = Terms { full: true, ..terms };
        let mut front: Vec<(Head, Trail)> = self.start(fork, stack, terms).into_iter().collect();
        let mut offset = at;
        loop {
            let sort = self.look(tokens, offset);
            let reached = self.reach(&front, sort, terms);
            if reached.is_empty() {
                return self.finished(&front, terms.rank).ok_or(at);
            }
            if let Some(way) = only_way(&reached).or_else(|| one_best_way(&reached)) {
                return Ok(usize::from(way));
            }
            front = reached.into_iter().collect();
            if front.len() > CROWD {
                return Ok(0);
            }
            offset += usize::from(sort != Sort::End);
        }
    }

    /// The first way on which the rule of the fork was over; those whose ranks do not do come last.
    fn finished(&self, front: &[(Head, Trail)], rank: u8) -> Option<usize> {
        let over = |open: bool| {
            front
                .iter()
                .filter(|(head, _)| head.rank.is_none_or(|own| own >= rank) == open)
                .filter(|(head, trail)| {
                    trail.out || (self.stops(head.state) && trail.stacks.contains(&EMPTY))
                })
                .map(|(head, _)| usize::from(head.way))
                .min()
        };
        over(true).or_else(|| over(false))
    }

    /// All that can come first on the ways of a fork.
    fn start(&mut self, fork: StateId, stack: StackId, terms: Terms) -> Front {
        let network = self.network;
        let mut front = Front::new();
        let Step::Fork { ways, .. } = network.step(fork) else {
            return front;
        };
        for (way, first) in ways.iter().enumerate() {
            let head = Head {
                state: *first,
                way: way as u8,
                rank: None,
            };
            self.spread(
                head,
                stack,
                &Trail::default(),
                terms,
                &mut HashSet::new(),
                &mut front,
            );
        }
        front
    }

    /// All that can come after one more token.
    fn reach(&mut self, front: &[(Head, Trail)], sort: Sort, terms: Terms) -> Front {
        let network = self.network;
        let mut past = Front::new();
        let mut over = Vec::new();
        for (head, trail) in front {
            match network.step(head.state) {
                Step::Stop if terms.full || sort == Sort::End => over.push((*head, trail.clone())),
                Step::Match { sorts, next, .. } if sorts.has(sort) => {
                    let head = Head {
                        state: *next,
                        ..*head
                    };
                    for stack in &trail.stacks {
                        self.add(&mut past, head, *stack, trail.out, trail.freed, terms.full);
                    }
                }
                _ => {}
            }
        }
        let mut reached = match over.is_empty() && sort != Sort::End && only_way(&past).is_some() {
            true => past,
            false => {
                let terms = Terms {
                    ranked: false,
                    at_end: sort == Sort::End,
                    ..terms
                };
                let mut reached = Front::new();
                let mut busy = HashSet::new();
                for (head, trail) in past {
                    for stack in &trail.stacks {
                        self.spread(head, *stack, &trail, terms, &mut busy, &mut reached);
                    }
                }
                reached
            }
        };
        if sort == Sort::End {
            reached.retain(|head, _| self.stops(head.state));
        }
        if !terms.full || !reached.keys().any(|head| self.stops(head.state)) {
            for (head, trail) in over {
                for stack in &trail.stacks {
                    self.add(&mut reached, head, *stack, trail.out, trail.freed, terms.full);
                }
            }
        }
        reached
    }

    fn add(&self, front: &mut Front, head: Head, stack: StackId, out: bool, freed: bool, full: bool) {
        let trail = front.entry(head).or_default();
        trail.out |= out;
        trail.freed |= freed;
        // Without the calls an end of what is known stands for all calls there are.
        let covers = |one: StackId, other: StackId| match full {
            true => one == other,
            false => self.stacks.covers(one, other),
        };
        if trail.stacks.iter().any(|known| covers(*known, stack)) {
            return;
        }
        trail.stacks.retain(|known| !covers(stack, *known));
        let place = trail.stacks.partition_point(|known| *known < stack);
        trail.stacks.insert(place, stack);
    }

    /// Adds what can be matched from a state on, through calls and out of rules that are over.
    fn spread(
        &mut self,
        head: Head,
        stack: StackId,
        trail: &Trail,
        terms: Terms,
        busy: &mut HashSet<Walker>,
        front: &mut Front,
    ) {
        let network = self.network;
        let mut todo = vec![Walker {
            head,
            stack,
            out: trail.out,
            freed: trail.freed,
            depth: 0,
        }];
        while let Some(walker) = todo.pop() {
            if !busy.insert(walker) {
                continue;
            }
            let to = |state: StateId| Walker {
                head: Head { state, ..walker.head },
                ..walker
            };
            match network.step(walker.head.state) {
                Step::Match { sorts, next, .. } => {
                    self.add(
                        front,
                        walker.head,
                        walker.stack,
                        walker.out,
                        walker.freed,
                        terms.full,
                    );
                    if terms.at_end && sorts.has(Sort::End) {
                        todo.push(to(*next));
                    }
                }
                Step::Call { rule, next, .. } => todo.push(Walker {
                    stack: self.stacks.push(walker.stack, *next),
                    depth: walker.depth + i32::from(walker.depth >= 0),
                    ..to(network.start(*rule))
                }),
                Step::Form(_, next) | Step::Pass(next) | Step::Begin(next) | Step::Again(next) => {
                    todo.push(to(*next))
                }
                Step::Grow { rank, next, .. } => match terms.ranked && walker.depth == 0 {
                    true if terms.full && *rank < terms.rank => {}
                    true if !terms.full => todo.push(Walker {
                        head: Head {
                            state: *next,
                            rank: Some(*rank),
                            ..walker.head
                        },
                        ..walker
                    }),
                    _ => todo.push(to(*next)),
                },
                Step::Fork { fork, ways, .. } => {
                    // An operand that ends in its own rule leaves further operators to the outer one.
                    let (_, back) = self.stacks.last(walker.stack);
                    let outer = *fork == Fork::GrowLoop
                        && walker.stack != EMPTY
                        && network.tails[usize::from(back)]
                        && network.rule(back) == network.rule(walker.head.state);
                    todo.extend(ways.iter().skip(usize::from(outer)).rev().map(|way| to(*way)));
                }
                Step::Stop if walker.stack != EMPTY => {
                    let (below, back) = self.stacks.last(walker.stack);
                    todo.push(Walker {
                        stack: below,
                        ..to(back)
                    });
                }
                Step::Stop => {
                    let rule = network.rule(walker.head.state);
                    let callers = network.callers(rule);
                    if terms.full || callers.is_empty() {
                        self.add(front, walker.head, EMPTY, walker.out, walker.freed, terms.full);
                        continue;
                    }
                    for (back, any_rank) in callers {
                        todo.push(Walker {
                            out: true,
                            freed: walker.freed || (*any_rank && terms.grown == Some(rule)),
                            depth: (walker.depth - 1).max(-1),
                            ..to(*back)
                        });
                    }
                }
            }
        }
    }
}
