//! What a walk says about the mistakes it meets.

use super::walk::{GivenUp, Stumble, Walk};
use crate::ast::Finding;
use crate::lexer::{Sort, Token};

/// Mistakes that are told.
const MISTAKES: usize = 100;

impl Walk<'_> {
    /// Tells the junk before a token that is looked at for the first time.
    pub(super) fn look(&mut self, token: usize) {
        while let Some(junk) = self
            .tokens
            .junk
            .get(self.junk)
            .filter(|junk| junk.before <= token)
        {
            self.junk += 1;
            let text: String = self.tokens.chars[junk.start..junk.end].iter().collect();
            self.tell(junk.start, &format!("token recognition error at: '{text}'"));
        }
    }

    pub(super) fn tell(&mut self, at: usize, what: &str) {
        if self.given_up {
            return;
        }
        if self.told == MISTAKES {
            let what = format!("Syntax error: More than {MISTAKES} syntax errors");
            self.findings.push(Finding::new(at, what));
            self.given_up = true;
            return;
        }
        self.told += 1;
        self.findings
            .push(Finding::new(at, format!("Syntax error: {what}")));
    }

    pub(super) fn give_up(&mut self, what: String) -> GivenUp {
        if !self.given_up {
            self.findings.push(Finding::nowhere(what));
            self.given_up = true;
        }
        GivenUp
    }

    pub(super) fn quote(&self, token: Token) -> String {
        match token.sort {
            Sort::End => "'<EOF>'".into(),
            _ => quote(&self.tokens.text(token)),
        }
    }

    pub(super) fn tell_extraneous(&mut self) {
        if self.recovering {
            return;
        }
        self.recovering = true;
        let (token, wanted) = (self.token(0), self.expected(self.state).shown());
        let what = format!("extraneous input {} expecting {wanted}", self.quote(token));
        self.tell(token.start, &what);
    }

    pub(super) fn tell_stumble(&mut self, stumble: &Stumble) {
        if self.recovering {
            return;
        }
        self.recovering = true;
        match stumble {
            Stumble::Mismatch => {
                let (token, wanted) = (self.token(0), self.expected(self.state).shown());
                let what = format!("mismatched input {} expecting {wanted}", self.quote(token));
                self.tell(token.start, &what);
            }
            Stumble::NoWay(token) => {
                let token = self.tokens.list[(*token).min(self.tokens.list.len() - 1)];
                let what = self.no_way_to(token);
                self.tell(token.start, &what);
            }
        }
    }

    /// The message about a fork no way of which fits the text up to a token.
    fn no_way_to(&self, token: Token) -> String {
        let first = self.token(0);
        if first.sort == Sort::End {
            return "no viable alternative at input '<EOF>'".into();
        }
        let junk = &self.tokens.junk;
        let is_junk = |at: usize| {
            let after = junk.partition_point(|junk| junk.start <= at);
            after > 0 && at < junk[after - 1].end
        };
        let text: String = (first.start..token.end)
            .filter(|at| !is_junk(*at))
            .map(|at| self.tokens.chars[at])
            .collect();
        let mut rest = text.chars();
        let one = rest.next().is_some_and(|c| c != '\n');
        let word = rest.as_str();
        // A word of the language where a name ought to be.
        match one && matches!(word, "true" | "false" | "null") {
            true => format!("mismatched input '{word}' expecting IDENTIFIER"),
            false => format!("no viable alternative at input {}", quote(&text)),
        }
    }
}

/// A piece of the text in quotes, its line ends and tabs made visible.
fn quote(text: &str) -> String {
    let text = text
        .replace('\t', "\\t")
        .replace('\n', "\\n")
        .replace('\r', "\\r");
    format!("'{text}'")
}
