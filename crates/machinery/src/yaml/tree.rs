//! Tokens to a tree: the first document of a text. Upstream's reader never looks at the others, and neither does this.

use super::scan::{Kind, Scanner, Token};
use super::words::Fault;
use std::collections::HashMap;

/// Levels of nesting that a document may have. It is also what is allowed in JSON.
pub(super) const MAX_DEPTH: usize = 127;
/// Nodes that a document may have.
const MAX_NODES: usize = 500_000;

const NO_CONTENT: &str = "did not find expected node content";
const LONG_TAGS: &str = "tag:yaml.org,2002:";

/// The place of a node among those of its document.
pub(super) type Id = usize;

#[derive(Debug)]
pub(super) struct Node {
    pub content: Content,
    /// As it stands there, written out; empty for none.
    pub tag: String,
    /// Where it begins, from 0.
    pub line: usize,
}

#[derive(Debug)]
pub(super) enum Content {
    Scalar {
        text: String,
        /// Whether its meaning is to be found out from its text.
        is_plain: bool,
    },
    Sequence(Vec<Id>),
    Mapping(Vec<(Id, Id)>),
    Alias {
        name: String,
        of: Id,
    },
}

/// A document: its nodes, and the root among them. No document is no root.
#[derive(Debug)]
pub(super) struct Tree {
    pub nodes: Vec<Node>,
    pub root: Option<Id>,
}

/// Reads the first document.
pub(super) fn tree(bytes: &[u8]) -> Result<Tree, Fault> {
    let mut builder = Builder {
        scanner: Scanner::new(bytes),
        nodes: Vec::new(),
        anchors: HashMap::new(),
        handles: HashMap::new(),
    };
    let root = builder.document()?;
    Ok(Tree {
        nodes: builder.nodes,
        root,
    })
}

struct Builder<'t> {
    scanner: Scanner<'t>,
    nodes: Vec<Node>,
    anchors: HashMap<String, Id>,
    /// What handles of tags stand for.
    handles: HashMap<String, String>,
}

/// What may stand in front of a node.
#[derive(Debug, Default)]
struct Properties {
    line: Option<usize>,
    anchor: Option<String>,
    tag: Option<(String, String, usize)>,
}

/// What a node may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Allowed {
    Flow,
    Block,
    /// A block, or a list that is not indented under its key.
    BlockOrList,
}

impl Builder<'_> {
    fn peek(&mut self) -> Result<&Token, Fault> {
        self.scanner.peek()
    }

    fn is_next(&mut self, kinds: &[Kind]) -> Result<bool, Fault> {
        Ok(kinds.contains(&self.peek()?.kind))
    }

    /// The line of the next token, which is then taken.
    fn skip(&mut self) -> Result<usize, Fault> {
        let line = self.peek()?.line;
        self.scanner.take();
        Ok(line)
    }

    fn unexpected<T>(&mut self, words: &str) -> Result<T, Fault> {
        let line = self.peek()?.line;
        Err(Fault::of_tree(line, words))
    }

    fn document(&mut self) -> Result<Option<Id>, Fault> {
        if self.is_next(&[Kind::StreamEnd])? {
            return Ok(None);
        }
        let is_explicit = self.directives()?;
        let starts = self.is_next(&[Kind::DocumentStart])?;
        if is_explicit && !starts {
            return self.unexpected("did not find expected <document start>");
        }
        let mut is_empty = false;
        if starts {
            self.scanner.take();
            let next = &self.peek()?.kind;
            is_empty = matches!(
                next,
                Kind::Version(..)
                    | Kind::TagDirective { .. }
                    | Kind::DocumentStart
                    | Kind::DocumentEnd
                    | Kind::StreamEnd
            );
        }
        let root = if is_empty {
            let line = self.peek()?.line;
            self.empty(line)?
        } else {
            self.node(Allowed::Block, 0)?
        };
        // What follows is only looked at for its first token.
        self.peek()?;
        Ok(Some(root))
    }

    /// Reads directives; whether there were any.
    fn directives(&mut self) -> Result<bool, Fault> {
        let mut version = false;
        let mut is_any = false;
        loop {
            let Token { kind, line } = self.peek()?;
            let line = *line;
            match kind {
                Kind::Version(..) if version => {
                    return Err(Fault::of_tree(line, "found duplicate %YAML directive"));
                }
                Kind::Version(1, 1) => version = true,
                Kind::Version(..) => return Err(Fault::of_tree(line, "found incompatible YAML document")),
                Kind::TagDirective { handle, prefix } => {
                    let (handle, prefix) = (handle.clone(), prefix.clone());
                    if self.handles.insert(handle, prefix).is_some() {
                        return Err(Fault::of_tree(line, "found duplicate %TAG directive"));
                    }
                }
                _ => break,
            }
            is_any = true;
            self.scanner.take();
        }
        for (handle, prefix) in [("!", "!"), ("!!", LONG_TAGS)] {
            self.handles
                .entry(handle.to_owned())
                .or_insert_with(|| prefix.to_owned());
        }
        Ok(is_any)
    }

    fn add(&mut self, content: Content, tag: String, line: usize) -> Result<Id, Fault> {
        if self.nodes.len() == MAX_NODES {
            return Err(Fault::new(format!("exceeded max nodes of {MAX_NODES}")));
        }
        self.nodes.push(Node { content, tag, line });
        Ok(self.nodes.len() - 1)
    }

    /// A node that is not there, which means null.
    fn empty(&mut self, line: usize) -> Result<Id, Fault> {
        let content = Content::Scalar {
            text: String::new(),
            is_plain: true,
        };
        self.add(content, String::new(), line)
    }

    fn properties(&mut self) -> Result<Properties, Fault> {
        let mut found = Properties::default();
        loop {
            let Token { kind, line } = self.peek()?;
            let line = *line;
            match kind {
                Kind::Anchor(name) if found.anchor.is_none() => found.anchor = Some(name.clone()),
                Kind::Tag { handle, suffix } if found.tag.is_none() => {
                    found.tag = Some((handle.clone(), suffix.clone(), line));
                }
                _ => return Ok(found),
            }
            found.line.get_or_insert(line);
            self.scanner.take();
        }
    }

    fn tag(&self, handle: String, suffix: String, line: usize) -> Result<String, Fault> {
        if handle.is_empty() {
            return Ok(suffix);
        }
        match self.handles.get(&handle) {
            Some(prefix) if !(prefix.is_empty() && suffix.is_empty()) => Ok(format!("{prefix}{suffix}")),
            _ => Err(Fault::of_tree(line, "found undefined tag handle")),
        }
    }

    fn node(&mut self, allowed: Allowed, depth: usize) -> Result<Id, Fault> {
        if depth > MAX_DEPTH {
            return Err(Fault::new(format!("exceeded max depth of {MAX_DEPTH}")));
        }
        if let Token {
            kind: Kind::Alias(name),
            line,
        } = self.peek()?
        {
            let (name, line) = (name.clone(), *line);
            let Some(of) = self.anchors.get(&name).copied() else {
                return Err(Fault::new(format!("unknown anchor '{name}' referenced")));
            };
            self.scanner.take();
            return self.add(Content::Alias { name, of }, String::new(), line);
        }
        let properties = self.properties()?;
        let tag = match properties.tag {
            Some((handle, suffix, line)) => self.tag(handle, suffix, line)?,
            None => String::new(),
        };
        let Token { kind, line } = self.peek()?;
        let line = properties.line.unwrap_or(*line);
        if let Kind::Scalar { .. } = kind {
            let Some(Kind::Scalar { text, is_plain }) = self.scanner.take().map(|token| token.kind) else {
                return self.unexpected(NO_CONTENT);
            };
            let is_plain = tag == "!" || (is_plain && tag.is_empty());
            let id = self.add(Content::Scalar { text, is_plain }, tag, line)?;
            self.anchor(properties.anchor, id);
            return Ok(id);
        }
        let is_block = allowed != Allowed::Flow;
        let kind = match kind {
            Kind::BlockEntry if allowed == Allowed::BlockOrList => Kind::BlockEntry,
            Kind::FlowSequence => Kind::FlowSequence,
            Kind::FlowMapping => Kind::FlowMapping,
            Kind::BlockSequence if is_block => Kind::BlockSequence,
            Kind::BlockMapping if is_block => Kind::BlockMapping,
            _ if properties.anchor.is_some() || !tag.is_empty() => {
                let text = String::new();
                let is_plain = tag.is_empty();
                let id = self.add(Content::Scalar { text, is_plain }, tag, line)?;
                self.anchor(properties.anchor, id);
                return Ok(id);
            }
            _ => return self.unexpected(NO_CONTENT),
        };
        // What has an anchor is known by it within itself.
        let id = self.add(Content::Sequence(Vec::new()), tag, line)?;
        self.anchor(properties.anchor, id);
        self.nodes[id].content = match kind {
            Kind::FlowMapping => Content::Mapping(self.flow_mapping(depth)?),
            Kind::BlockMapping => Content::Mapping(self.block_mapping(depth)?),
            Kind::FlowSequence => Content::Sequence(self.flow_sequence(depth)?),
            Kind::BlockSequence => Content::Sequence(self.block_sequence(depth)?),
            _ => Content::Sequence(self.list(depth)?),
        };
        Ok(id)
    }

    fn anchor(&mut self, name: Option<String>, id: Id) {
        if let Some(name) = name {
            self.anchors.insert(name, id);
        }
    }

    /// A node, or nothing in front of one of these tokens.
    fn node_or_empty(
        &mut self,
        allowed: Allowed,
        ends: &[Kind],
        empty_line: usize,
        depth: usize,
    ) -> Result<Id, Fault> {
        if self.is_next(ends)? {
            self.empty(empty_line)
        } else {
            self.node(allowed, depth + 1)
        }
    }

    fn block_sequence(&mut self, depth: usize) -> Result<Vec<Id>, Fault> {
        self.skip()?;
        let mut items = Vec::new();
        while self.is_next(&[Kind::BlockEntry])? {
            let line = self.skip()?;
            let ends = [Kind::BlockEntry, Kind::BlockEnd];
            items.push(self.node_or_empty(Allowed::Block, &ends, line, depth)?);
        }
        if !self.is_next(&[Kind::BlockEnd])? {
            return self.unexpected("did not find expected '-' indicator");
        }
        self.skip()?;
        Ok(items)
    }

    /// A list that is not indented under its key.
    fn list(&mut self, depth: usize) -> Result<Vec<Id>, Fault> {
        let mut items = Vec::new();
        while self.is_next(&[Kind::BlockEntry])? {
            let line = self.skip()?;
            let ends = [Kind::BlockEntry, Kind::Key, Kind::Value, Kind::BlockEnd];
            items.push(self.node_or_empty(Allowed::Block, &ends, line, depth)?);
        }
        Ok(items)
    }

    fn block_mapping(&mut self, depth: usize) -> Result<Vec<(Id, Id)>, Fault> {
        const ENDS: [Kind; 3] = [Kind::Key, Kind::Value, Kind::BlockEnd];
        self.skip()?;
        let mut entries = Vec::new();
        while self.is_next(&[Kind::Key])? {
            let line = self.skip()?;
            let key = self.node_or_empty(Allowed::BlockOrList, &ENDS, line, depth)?;
            let value = if self.is_next(&[Kind::Value])? {
                let line = self.skip()?;
                self.node_or_empty(Allowed::BlockOrList, &ENDS, line, depth)?
            } else {
                let line = self.peek()?.line;
                self.empty(line)?
            };
            entries.push((key, value));
        }
        if !self.is_next(&[Kind::BlockEnd])? {
            return self.unexpected("did not find expected key");
        }
        self.skip()?;
        Ok(entries)
    }

    fn flow_sequence(&mut self, depth: usize) -> Result<Vec<Id>, Fault> {
        const END: Kind = Kind::FlowSequenceEnd;
        self.skip()?;
        let mut items = Vec::new();
        while !self.is_next(&[END])? {
            if !items.is_empty() {
                if !self.is_next(&[Kind::FlowEntry])? {
                    return self.unexpected("did not find expected ',' or ']'");
                }
                self.skip()?;
                if self.is_next(&[END])? {
                    break;
                }
            }
            let item = if self.is_next(&[Kind::Key])? {
                self.pair(depth + 1)?
            } else {
                self.node(Allowed::Flow, depth + 1)?
            };
            items.push(item);
        }
        self.skip()?;
        Ok(items)
    }

    /// A mapping of one entry, without brackets in a list.
    fn pair(&mut self, depth: usize) -> Result<Id, Fault> {
        if depth > MAX_DEPTH {
            return Err(Fault::new(format!("exceeded max depth of {MAX_DEPTH}")));
        }
        let line = self.skip()?;
        let id = self.add(Content::Mapping(Vec::new()), String::new(), line)?;
        let ends = [Kind::Value, Kind::FlowEntry, Kind::FlowSequenceEnd];
        let key = if self.is_next(&ends)? {
            // Upstream's reader loses that token, with whatever follows from it.
            let line = self.skip()?;
            self.empty(line)?
        } else {
            self.node(Allowed::Flow, depth + 1)?
        };
        let line = self.peek()?.line;
        let value = if self.is_next(&[Kind::Value])? {
            self.skip()?;
            self.node_or_empty(Allowed::Flow, &ends[1..], line, depth)?
        } else {
            self.empty(line)?
        };
        self.nodes[id].content = Content::Mapping(vec![(key, value)]);
        Ok(id)
    }

    fn flow_mapping(&mut self, depth: usize) -> Result<Vec<(Id, Id)>, Fault> {
        const END: Kind = Kind::FlowMappingEnd;
        self.skip()?;
        let mut entries = Vec::new();
        while !self.is_next(&[END])? {
            if !entries.is_empty() {
                if !self.is_next(&[Kind::FlowEntry])? {
                    return self.unexpected("did not find expected ',' or '}'");
                }
                self.skip()?;
                if self.is_next(&[END])? {
                    break;
                }
            }
            if !self.is_next(&[Kind::Key])? {
                let key = self.node(Allowed::Flow, depth + 1)?;
                let line = self.peek()?.line;
                entries.push((key, self.empty(line)?));
                continue;
            }
            self.skip()?;
            let ends = [Kind::Value, Kind::FlowEntry, END];
            let line = self.peek()?.line;
            let key = self.node_or_empty(Allowed::Flow, &ends, line, depth)?;
            let value = if self.is_next(&[Kind::Value])? {
                self.skip()?;
                let line = self.peek()?.line;
                self.node_or_empty(Allowed::Flow, &ends[1..], line, depth)?
            } else {
                let line = self.peek()?.line;
                self.empty(line)?
            };
            entries.push((key, value));
        }
        self.skip()?;
        Ok(entries)
    }
}
