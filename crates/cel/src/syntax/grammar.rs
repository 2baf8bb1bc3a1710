//! The grammar of expressions as data, with the names its parts go by in the tree.

use crate::lexer::Sort;

/// A rule of the grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Rule {
    Start,
    Expr,
    Or,
    And,
    Relation,
    Calc,
    Unary,
    Member,
    Primary,
    Arguments,
    Elements,
    Fields,
    Field,
    Entries,
    FieldName,
    Element,
    Literal,
}

/// What a node of the tree turned out to be; nothing in particular while no alternative was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    None,
    Operand,
    Not,
    Negate,
    Select,
    MemberCall,
    Index,
    Ident,
    Call,
    Nested,
    List,
    Map,
    Message,
    Literal,
    Name,
    QuotedName,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    Constant,
    Binary,
}

/// What a child is to its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    /// Nobody asks for it.
    None,
    /// The operand, or the only thing there is.
    Inner,
    /// Operands after the first.
    Then,
    Else,
    /// What a left-recursive node has grown around.
    Left,
    Operator,
    /// A question mark for what is optional.
    Optional,
    Name,
    Open,
    Arguments,
    Sign,
    Key,
    Colon,
}

/// One piece of a rule.
pub(super) enum Part {
    /// One token of several.
    Token(Label, &'static [Sort]),
    /// A rule; those that call themselves are given the least rank of operators they may take.
    Rule(Label, Rule, u8),
    /// Once or not at all.
    Optional(&'static [Part]),
    /// Any number of times, as the next token tells.
    Many(&'static [Part]),
    /// Any number of times; only what comes after tells whether it goes on.
    ManyAhead(&'static [Part]),
    /// At least once.
    Some(&'static [Part]),
    SomeAhead(&'static [Part]),
    /// Alternatives that the next token tells apart.
    Choice(&'static [(Form, &'static [Part])]),
    ChoiceAhead(&'static [(Form, &'static [Part])]),
    /// The rest of a rule that began with itself: alternatives with their ranks.
    Grow(&'static [(u8, Form, &'static [Part])]),
}

use Part::{Choice, ChoiceAhead, Grow, Many, ManyAhead, Optional, SomeAhead, Token};
use Sort::*;

const fn rule(label: Label, rule: Rule) -> Part {
    Part::Rule(label, rule, 0)
}

const fn token(sort: &'static [Sort]) -> Part {
    Token(Label::None, sort)
}

const ROOT_DOT: Part = Optional(&[token(&[Dot])]);
const NAME: Part = Token(Label::Name, &[Sort::Ident]);
const QUESTION: Part = Optional(&[Token(Label::Optional, &[Question])]);
const SIGN: Part = Optional(&[Token(Label::Sign, &[Minus])]);
const LAST_COMMA: Part = Optional(&[token(&[Comma])]);
const VALUE: Part = rule(Label::Then, Rule::Expr);
const COLON: Part = Token(Label::Colon, &[Colon]);

/// All rules.
pub(super) const RULES: [(Rule, &[Part]); 17] = [
    (Rule::Start, &[rule(Label::Inner, Rule::Expr), token(&[End])]),
    (
        Rule::Expr,
        &[
            rule(Label::Inner, Rule::Or),
            Optional(&[
                Token(Label::Operator, &[Question]),
                rule(Label::Then, Rule::Or),
                token(&[Colon]),
                rule(Label::Else, Rule::Expr),
            ]),
        ],
    ),
    (
        Rule::Or,
        &[
            rule(Label::Inner, Rule::And),
            Many(&[Token(Label::Operator, &[Or]), rule(Label::Then, Rule::And)]),
        ],
    ),
    (
        Rule::And,
        &[
            rule(Label::Inner, Rule::Relation),
            Many(&[Token(Label::Operator, &[And]), rule(Label::Then, Rule::Relation)]),
        ],
    ),
    (
        Rule::Relation,
        &[
            rule(Label::Inner, Rule::Calc),
            Grow(&[(
                1,
                Form::Binary,
                &[
                    Token(
                        Label::Operator,
                        &[Less, LessEquals, GreaterEquals, Greater, Equals, NotEquals, In],
                    ),
                    Part::Rule(Label::Then, Rule::Relation, 2),
                ],
            )]),
        ],
    ),
    (
        Rule::Calc,
        &[
            rule(Label::Inner, Rule::Unary),
            Grow(&[
                (
                    2,
                    Form::Binary,
                    &[
                        Token(Label::Operator, &[Star, Slash, Percent]),
                        Part::Rule(Label::Then, Rule::Calc, 3),
                    ],
                ),
                (
                    1,
                    Form::Binary,
                    &[
                        Token(Label::Operator, &[Plus, Minus]),
                        Part::Rule(Label::Then, Rule::Calc, 2),
                    ],
                ),
            ]),
        ],
    ),
    (
        Rule::Unary,
        &[ChoiceAhead(&[
            (Form::Operand, &[rule(Label::Inner, Rule::Member)]),
            (
                Form::Not,
                &[
                    Part::Some(&[Token(Label::Operator, &[Not])]),
                    rule(Label::Inner, Rule::Member),
                ],
            ),
            (
                Form::Negate,
                &[
                    SomeAhead(&[Token(Label::Operator, &[Minus])]),
                    rule(Label::Inner, Rule::Member),
                ],
            ),
        ])],
    ),
    (
        Rule::Member,
        &[
            rule(Label::Inner, Rule::Primary),
            Grow(&[
                (
                    3,
                    Form::Select,
                    &[
                        Token(Label::Operator, &[Dot]),
                        QUESTION,
                        rule(Label::Name, Rule::FieldName),
                    ],
                ),
                (
                    2,
                    Form::MemberCall,
                    &[
                        Token(Label::Operator, &[Dot]),
                        NAME,
                        Token(Label::Open, &[OpenParen]),
                        Optional(&[rule(Label::Arguments, Rule::Arguments)]),
                        token(&[CloseParen]),
                    ],
                ),
                (
                    1,
                    Form::Index,
                    &[
                        Token(Label::Operator, &[OpenBracket]),
                        QUESTION,
                        VALUE,
                        token(&[CloseBracket]),
                    ],
                ),
            ]),
        ],
    ),
    (Rule::Primary, &[ChoiceAhead(PRIMARIES)]),
    (Rule::Arguments, &[VALUE, Many(&[token(&[Comma]), VALUE])]),
    (
        Rule::Elements,
        &[
            rule(Label::Then, Rule::Element),
            ManyAhead(&[token(&[Comma]), rule(Label::Then, Rule::Element)]),
        ],
    ),
    (
        Rule::Fields,
        &[
            rule(Label::Key, Rule::Field),
            COLON,
            VALUE,
            ManyAhead(&[token(&[Comma]), rule(Label::Key, Rule::Field), COLON, VALUE]),
        ],
    ),
    (Rule::Field, &[QUESTION, rule(Label::Name, Rule::FieldName)]),
    (
        Rule::Entries,
        &[
            rule(Label::Key, Rule::Element),
            COLON,
            VALUE,
            ManyAhead(&[token(&[Comma]), rule(Label::Key, Rule::Element), COLON, VALUE]),
        ],
    ),
    (
        Rule::FieldName,
        &[Choice(&[
            (Form::Name, &[NAME]),
            (Form::QuotedName, &[Token(Label::Name, &[Quoted])]),
        ])],
    ),
    (Rule::Element, &[QUESTION, rule(Label::Inner, Rule::Expr)]),
    (
        Rule::Literal,
        &[ChoiceAhead(&[
            (Form::Int, &[SIGN, Token(Label::Inner, &[Int])]),
            (Form::Uint, &[Token(Label::Inner, &[Uint])]),
            (Form::Double, &[SIGN, Token(Label::Inner, &[Double])]),
            (Form::Text, &[Token(Label::Inner, &[Text])]),
            (Form::Bytes, &[Token(Label::Inner, &[Bytes])]),
            (Form::Constant, &[token(&[True])]),
            (Form::Constant, &[token(&[False])]),
            (Form::Constant, &[token(&[Null])]),
        ])],
    ),
];

const PRIMARIES: &[(Form, &[Part])] = &[
    (Form::Ident, &[ROOT_DOT, NAME]),
    (
        Form::Call,
        &[
            ROOT_DOT,
            NAME,
            Token(Label::Open, &[OpenParen]),
            Optional(&[rule(Label::Arguments, Rule::Arguments)]),
            token(&[CloseParen]),
        ],
    ),
    (
        Form::Nested,
        &[
            token(&[OpenParen]),
            rule(Label::Inner, Rule::Expr),
            token(&[CloseParen]),
        ],
    ),
    (
        Form::List,
        &[
            Token(Label::Operator, &[OpenBracket]),
            Optional(&[rule(Label::Arguments, Rule::Elements)]),
            LAST_COMMA,
            token(&[CloseBracket]),
        ],
    ),
    (
        Form::Map,
        &[
            Token(Label::Operator, &[OpenBrace]),
            Optional(&[rule(Label::Arguments, Rule::Entries)]),
            LAST_COMMA,
            token(&[CloseBrace]),
        ],
    ),
    (
        Form::Message,
        &[
            ROOT_DOT,
            NAME,
            Many(&[token(&[Dot]), NAME]),
            Token(Label::Operator, &[OpenBrace]),
            Optional(&[rule(Label::Arguments, Rule::Fields)]),
            LAST_COMMA,
            token(&[CloseBrace]),
        ],
    ),
    (Form::Literal, &[rule(Label::Inner, Rule::Literal)]),
];
