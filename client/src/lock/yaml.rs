//! Images in compose files and Kubernetes objects: the value of each key `image`, wherever it stands.
//!
//! The parser tells the structure and where each scalar begins; that the file has there what the scalar says is checked
//! again, so that an edit never hits anything else.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::{Item, Opaque, Place, Unread, dockerfile};

/// The `apiVersion` and the `kind` of Kubernetes objects that hold texts and schemas, and run nothing.
const RUN_NOTHING: [(&str, &str); 4] = [
    ("v1", "ConfigMap"),
    ("v1", "Secret"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("apiextensions.k8s.io/v1beta1", "CustomResourceDefinition"),
];

/// Those of a list of other objects.
const LIST: (&str, &str) = ("v1", "List");

/// The key that brings in the keys of another mapping.
const MERGE: &str = "<<";

/// What a build context that is an image begins with.
const CONTEXT: &str = "docker-image://";

/// The key whose values are build contexts.
const CONTEXTS: &str = "additional_contexts";

/// A mapping or a list that is being read.
#[derive(Default)]
struct Frame {
    is_list: bool,
    /// The key whose value this is.
    name: Option<String>,
    /// The key whose value comes next; none if a key comes next, or it is not a text.
    key: Option<String>,
    at_value: bool,
    /// Its anchor, 0 if it has none.
    anchor: usize,
    line: usize,
    /// How many items there were before it.
    before: usize,
    /// Which of them are the image of this very mapping.
    own: Vec<usize>,
    /// There is something to build; none if it does not say.
    builds: Option<bool>,
    /// The pull policy is one that fetches something; none if there is no policy.
    fetches: Option<bool>,
    /// The anchors that are merged into it.
    merged: Vec<usize>,
    /// An image in it is none that runs.
    has_idle: bool,
    has_reference: bool,
    api_version: Option<String>,
    kind: Option<String>,
    /// Its `apiVersion` or `kind` is said twice, or may come by a merge too, or it has `services` as a compose file has: what
    /// it is, programs disagree on.
    unclear: bool,
    services: bool,
    volume: Volume,
}

/// What a mapping says of a volume, if it is one.
#[derive(Clone, Default)]
struct Volume {
    kind: Option<String>,
    source: Option<(Scalar, Option<usize>)>,
}

/// A scalar, and where it is.
#[derive(Clone)]
struct Scalar {
    line: usize,
    text: String,
    at: Result<Range<usize>, Opaque>,
}

struct Reader<'a> {
    text: &'a str,
    /// Where the characters begin in bytes; empty if each is one byte.
    bytes: Vec<usize>,
    frames: Vec<Frame>,
    /// The items of this document, and the anchor that each has.
    items: Vec<(Item, Option<usize>)>,
    /// Those that are built and not fetched, or no images, in a compose file.
    built: BTreeSet<usize>,
    /// Those that are images in a compose file only.
    in_compose: BTreeSet<usize>,
    /// The document is a compose file.
    compose: bool,
    /// Those of each item of the document that runs nothing, if the document is a [`LIST`]. What it is may stand at its end.
    listed: Vec<Range<usize>>,
    /// Those that run nowhere where they stand.
    skipped: BTreeSet<usize>,
    anchors: BTreeMap<usize, Scalar>,
    /// Anchors that are used for something that is no image.
    shared: BTreeSet<usize>,
    /// Anchors of mappings and lists of this document, with the items in each.
    holding: Vec<(usize, Range<usize>)>,
    /// Anchors of this document, with the images that are built and not fetched where they stand, or were merged there.
    not_fetched: BTreeMap<usize, Vec<usize>>,
    /// Anchors of this document, with what they say of a volume.
    volumes: BTreeMap<usize, Volume>,
    /// Anchors of what holds an image that runs nowhere where it stands.
    idle: BTreeSet<usize>,
    done: Vec<(Item, Option<usize>)>,
}

pub(super) fn images(text: &str) -> Result<Vec<Item>, Unread> {
    let bytes =
        if text.is_ascii() { Vec::new() } else { text.char_indices().map(|(at, _)| at).collect::<Vec<_>>() };
    let mut reader = Reader {
        text,
        bytes,
        frames: Vec::new(),
        items: Vec::new(),
        built: BTreeSet::new(),
        in_compose: BTreeSet::new(),
        compose: false,
        listed: Vec::new(),
        skipped: BTreeSet::new(),
        anchors: BTreeMap::new(),
        shared: BTreeSet::new(),
        holding: Vec::new(),
        not_fetched: BTreeMap::new(),
        volumes: BTreeMap::new(),
        idle: BTreeSet::new(),
        done: Vec::new(),
    };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| Unread {
            line: error.marker().line(),
            what: format!("not YAML: {}", error.info()),
        })?;
        reader.event(event, span)?;
    }
    Ok(reader.finish())
}

impl Reader<'_> {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Unread> {
        let line = span.start.line();
        match event {
            Event::Scalar(text, style, anchor, _) => {
                if self.frames.is_empty() && !text.is_empty() && text != "~" && text != "null" {
                    return Err(unknown(line));
                }
                let scalar = self.scalar(&text, style, span);
                if anchor != 0 {
                    self.anchors.insert(anchor, scalar.clone());
                }
                self.value(line, Some(scalar), (anchor != 0).then_some(anchor));
                self.node_done(Some(&text));
            }
            Event::Alias(anchor) => {
                if self.idle.contains(&anchor) {
                    let what = "an alias of something with an image, which runs nowhere where it is: write it out here";
                    return Err(Unread { line, what: what.to_owned() });
                }
                let scalar = self.anchors.get(&anchor).cloned();
                let text = scalar.as_ref().map(|scalar| scalar.text.clone());
                self.merges(anchor);
                if !self.value(line, scalar, Some(anchor)) {
                    self.shared.insert(anchor);
                }
                self.node_done(text.as_deref());
            }
            Event::SequenceStart(anchor, _) => self.start(line, true, anchor),
            Event::MappingStart(anchor, _) => self.start(line, false, anchor),
            Event::SequenceEnd | Event::MappingEnd => self.end()?,
            Event::DocumentEnd => self.end_document(),
            Event::DocumentStart(_) | Event::StreamStart | Event::StreamEnd | Event::Nothing => {}
        }
        Ok(())
    }

    /// Where `text` stands, if the file has it there as it is.
    fn scalar(&self, text: &str, style: ScalarStyle, span: Span) -> Scalar {
        let start = match self.bytes.as_slice() {
            [] => Some(span.start.index()),
            bytes => bytes.get(span.start.index()).copied(),
        };
        let quote = match style {
            ScalarStyle::Plain => Some(""),
            ScalarStyle::SingleQuoted => Some("'"),
            ScalarStyle::DoubleQuoted => Some("\""),
            ScalarStyle::Literal | ScalarStyle::Folded => None,
        };
        let at = start.zip(quote).and_then(|(start, quote)| {
            let whole = self.text.get(start..)?;
            let rest = after_properties(whole).strip_prefix(quote)?;
            let start = start + whole.len() - rest.len();
            rest.strip_prefix(text)?.strip_prefix(quote)?;
            Some(start..start + text.len())
        });
        Scalar { line: span.start.line(), text: text.to_owned(), at: at.ok_or(Opaque::Spelling) }
    }

    /// A scalar, or an alias of one, where the innermost mapping wants a value. True if it is an image.
    fn value(&mut self, line: usize, scalar: Option<Scalar>, anchor: Option<usize>) -> bool {
        let depth = self.frames.len();
        let Some(frame) = self.frames.last_mut() else { return false };
        if let Some(scalar) = scalar.as_ref().filter(|_| frame.is_list || frame.at_value) {
            let listed = frame.name.as_deref() == Some(CONTEXTS);
            let found = if frame.is_list || listed { context(scalar, listed) } else { named(scalar) };
            if let Some(item) = found {
                self.only_in_compose(item, anchor);
                return true;
            }
        }
        let Some(frame) = self.frames.last_mut() else { return false };
        let Some(key) = frame.key.clone().filter(|_| frame.at_value) else { return false };
        let text = scalar.as_ref().map(|scalar| scalar.text.as_str());
        match key.as_str() {
            "build" => frame.builds = Some(!matches!(text, Some("" | "~" | "null"))),
            "pull_policy" => frame.fetches = Some(!matches!(text, Some("build" | "never"))),
            "apiVersion" | "kind" => {
                let said = if key == "kind" { &mut frame.kind } else { &mut frame.api_version };
                frame.unclear |= said.is_some();
                *said = text.map(str::to_owned);
            }
            // A block device's image is none that runs.
            "image" if frame.name.as_deref() == Some("rbd") => {
                frame.has_idle = true;
                self.shared.extend(anchor);
            }
            "image" => {
                frame.own.push(self.items.len());
                self.image(line, scalar, anchor);
                return true;
            }
            "reference" if depth > 1 && frame.name.as_deref() == Some("image") => {
                frame.has_reference = true;
                self.image(line, scalar, anchor);
                return true;
            }
            "type" => frame.volume.kind = text.map(str::to_owned),
            "source" => frame.volume.source = scalar.map(|scalar| (scalar, anchor)),
            "dockerfile_inline" => {
                let items = scalar.map_or_else(Vec::new, |scalar| inline(&scalar));
                items.into_iter().for_each(|item| self.only_in_compose(item, anchor));
                return true;
            }
            _ => {}
        }
        false
    }

    fn image(&mut self, line: usize, scalar: Option<Scalar>, anchor: Option<usize>) {
        let item = scalar.map_or_else(|| Item::opaque(line, "", Opaque::Parts), Scalar::image);
        self.items.push((item, anchor));
    }

    fn only_in_compose(&mut self, item: Item, anchor: Option<usize>) {
        self.in_compose.insert(self.items.len());
        self.items.push((item, anchor));
    }

    /// An alias of `anchor` where a mapping merges it: after the key `<<`, by itself or in a list.
    fn merges(&mut self, anchor: usize) {
        let into = match self.frames.as_mut_slice() {
            [.., frame, list] if list.is_list && list.name.as_deref() == Some(MERGE) => frame,
            [.., frame] if frame.at_value && frame.key.as_deref() == Some(MERGE) => frame,
            _ => return,
        };
        into.merged.push(anchor);
    }

    fn start(&mut self, line: usize, is_list: bool, anchor: usize) {
        let mut name = None;
        if let Some(frame) = self.frames.last_mut().filter(|frame| frame.at_value && !frame.is_list) {
            name = frame.key.clone();
            match name.as_deref() {
                Some("build") => frame.builds = Some(true),
                Some("services") => frame.services = !is_list,
                Some("image") if is_list => self.items.push((Item::opaque(line, "", Opaque::Parts), None)),
                _ => {}
            }
        }
        self.frames.push(Frame { is_list, name, anchor, line, before: self.items.len(), ..Frame::default() });
    }

    fn end(&mut self) -> Result<(), Unread> {
        let frame = self.frames.pop().expect("the parser balances what it opens");
        let is_object = frame.api_version.is_some() && frame.kind.is_some();
        if frame.name.as_deref() == Some("image") && !frame.is_list && !frame.has_reference {
            // In a compose file these are the options of a volume's image, which is its source.
            if self.frames.iter().nth_back(1).is_some_and(|list| list.name.as_deref() == Some("volumes")) {
                self.built.insert(self.items.len());
            }
            self.items.push((Item::opaque(frame.line, "", Opaque::Parts), None));
        }
        self.end_volume(&frame);
        if frame.anchor != 0 && self.items.len() > frame.before {
            self.holding.push((frame.anchor, frame.before..self.items.len()));
        }
        if frame.has_idle && frame.anchor != 0 {
            self.idle.insert(frame.anchor);
        }
        if is_object && frame.kind.as_deref() == Some("Kustomization") {
            let what = "a Kustomization names its images in parts: lock the files that it is made of, or what it builds".to_owned();
            return Err(Unread { line: frame.line, what });
        }
        self.end_object(&frame);
        self.end_service(&frame);
        if self.frames.is_empty() {
            self.compose = frame.services && !is_object;
            if !is_object && !self.compose {
                return Err(unknown(frame.line));
            }
        }
        self.node_done(None);
        Ok(())
    }

    /// Of a document, or of an item of a list: some run nothing. A mapping anywhere else is no object of its own, whatever it
    /// calls itself.
    fn end_object(&mut self, frame: &Frame) {
        let holds = frame.before..self.items.len();
        match self.frames.as_mut_slice() {
            [] if frame.runs_nothing() => self.skip(holds),
            [] if frame.is(LIST) => {
                std::mem::take(&mut self.listed).into_iter().for_each(|items| self.skip(items));
            }
            [_, list] if list.is_list && list.name.as_deref() == Some("items") && frame.runs_nothing() => {
                list.has_idle |= !holds.is_empty();
                // From here on, as an alias may come before the end of the list.
                let inside = self.holding.iter().rev().take_while(|(_, items)| items.start >= holds.start);
                self.idle.extend(inside.map(|(anchor, _)| *anchor));
                self.listed.push(holds);
            }
            _ => {}
        }
    }

    /// Leaves out the items that run nowhere where they stand.
    fn skip(&mut self, items: Range<usize>) {
        self.shared.extend(self.items[items.clone()].iter().filter_map(|(_, anchor)| *anchor));
        self.skipped.extend(items);
    }

    /// Of a service: without a policy that fetches nothing, compose first tries to fetch what it could build. What was merged
    /// from a service that is built may be fetched here.
    fn end_service(&mut self, frame: &Frame) {
        let mut not_fetched = Vec::new();
        if frame.builds == Some(true) && frame.fetches == Some(false) {
            not_fetched.extend(&frame.own);
            self.built.extend(&frame.own);
        }
        let merged = frame.merged.iter().filter_map(|anchor| self.not_fetched.get(anchor));
        let merged: Vec<usize> = merged.flatten().copied().collect();
        if frame.builds == Some(false) || frame.fetches == Some(true) {
            self.built.retain(|item| !merged.contains(item));
        }
        not_fetched.extend(merged);
        if frame.anchor != 0 {
            self.not_fetched.insert(frame.anchor, not_fetched);
        }
    }

    /// Of a volume: what is mounted may be an image. What is said and merged is taken together.
    fn end_volume(&mut self, frame: &Frame) {
        let mut volume = frame.volume.clone();
        for merged in frame.merged.iter().filter_map(|anchor| self.volumes.get(anchor)) {
            volume.kind = volume.kind.or_else(|| merged.kind.clone());
            volume.source = volume.source.or_else(|| merged.source.clone());
        }
        if frame.anchor != 0 {
            self.volumes.insert(frame.anchor, volume.clone());
        }
        let parent = self.frames.last_mut();
        let is_volume =
            parent.as_ref().is_some_and(|list| list.is_list && list.name.as_deref() == Some("volumes"));
        if let Some(parent) = parent.filter(|_| frame.name.as_deref() == Some(MERGE)) {
            parent.volume.kind = parent.volume.kind.take().or(volume.kind);
            parent.volume.source = parent.volume.source.take().or(volume.source);
            return;
        }
        let Volume { kind: Some(kind), source } = volume else { return };
        match source {
            Some((source, anchor)) if kind == "image" => self.only_in_compose(source.image(), anchor),
            Some((Scalar { line, text, .. }, anchor)) if kind.contains('$') => {
                self.only_in_compose(Item::opaque(line, &text, Opaque::Variable), anchor);
            }
            None if kind == "image" && is_volume => {
                self.only_in_compose(Item::opaque(frame.line, "", Opaque::Empty), None);
            }
            _ => {}
        }
    }

    /// A node is complete: after a key comes its value, after a value the next key.
    fn node_done(&mut self, text: Option<&str>) {
        if let Some(frame) = self.frames.last_mut().filter(|frame| !frame.is_list) {
            frame.key = if frame.at_value { None } else { text.map(str::to_owned) };
            frame.unclear |= matches!(frame.key.as_deref(), Some(MERGE | "services"));
            frame.at_value = !frame.at_value;
        }
    }

    fn end_document(&mut self) {
        let built = std::mem::take(&mut self.built);
        let in_compose = std::mem::take(&mut self.in_compose);
        let items = std::mem::take(&mut self.items).into_iter().enumerate();
        let mut out = if self.compose { built } else { in_compose };
        out.append(&mut self.skipped);
        self.done.extend(items.filter(|(at, _)| !out.contains(at)).map(|(_, item)| item));
        self.compose = false;
        self.listed.clear();
        self.holding.clear();
        self.not_fetched.clear();
        self.volumes.clear();
    }

    /// Each place once, and none that something else shares.
    fn finish(self) -> Vec<Item> {
        let mut seen = BTreeSet::new();
        let mut items = Vec::new();
        for (mut item, anchor) in self.done {
            if anchor.is_some_and(|anchor| self.shared.contains(&anchor)) {
                item.place = Place::Opaque(Opaque::Shared);
            }
            let again = item.span().is_some_and(|span| !seen.insert(span.start));
            if !again {
                items.push(item);
            }
        }
        items
    }
}

impl Frame {
    /// True if it says for certain that it is this.
    fn is(&self, (api_version, kind): (&str, &str)) -> bool {
        let said = self.api_version.as_deref() == Some(api_version) && self.kind.as_deref() == Some(kind);
        said && !self.unclear
    }

    fn runs_nothing(&self) -> bool {
        RUN_NOTHING.into_iter().any(|known| self.is(known))
    }
}

impl Scalar {
    /// The image that it is as a whole.
    fn image(self) -> Item {
        let Self { line, text, at } = self;
        match at {
            _ if matches!(text.as_str(), "" | "~" | "null") => Item::opaque(line, &text, Opaque::Empty),
            Ok(span) => Item::new(line, &text, span),
            Err(why) => Item::opaque(line, text.trim(), why),
        }
    }
}

/// The image that a build context is: `docker-image://IMAGE`.
fn named(scalar: &Scalar) -> Option<Item> {
    part(scalar, 0)
}

/// The same in a list, where a name may stand before it (`NAME=docker-image://IMAGE`), or, if it `is_context` for certain, a
/// variable in its place.
fn context(scalar: &Scalar, is_context: bool) -> Option<Item> {
    let name = scalar.text.find('=').filter(|&end| !scalar.text[..end].contains([':', '/']));
    let start = name.map_or(0, |end| end + 1);
    let found = part(scalar, start).or_else(|| part(scalar, 0));
    found.or_else(|| {
        let value = &scalar.text[start..];
        let elsewhere =
            ["./", "../", "/", "~", "git", "http://", "https://", "oci-layout://", "service:", "ssh://"];
        let open = is_context && value.contains('$') && !elsewhere.iter().any(|mark| value.starts_with(mark));
        open.then(|| Item::opaque(scalar.line, value, Opaque::Variable))
    })
}

/// The image in `scalar` from the byte `start` on, if a context begins there that is one.
fn part(scalar: &Scalar, start: usize) -> Option<Item> {
    let value = scalar.text.get(start..)?;
    let is_image = value.get(..CONTEXT.len()).is_some_and(|mark| mark.eq_ignore_ascii_case(CONTEXT));
    let from = start + CONTEXT.len();
    is_image.then(|| {
        let at = scalar.at.clone().map(|span| span.start + from..span.end);
        Scalar { line: scalar.line, text: scalar.text[from..].to_owned(), at }.image()
    })
}

/// The images that an inline Dockerfile names. Compose puts variables in before it is read, wherever they stand.
fn inline(scalar: &Scalar) -> Vec<Item> {
    let opaque = |text: &str, why| Item::opaque(scalar.line, text, why);
    let mut items = match dockerfile::images(&scalar.text) {
        Ok(items) => items.iter().map(|item| opaque(&item.text, Opaque::Inline)).collect(),
        Err(_) => vec![opaque("dockerfile_inline", Opaque::Inline)],
    };
    if items.is_empty() && scalar.text.replace("$$", "").contains('$') {
        items.push(opaque("dockerfile_inline", Opaque::Variable));
    }
    items
}

/// `text` after the anchor and the tag that it begins with, if there are any. No plain scalar begins like them.
fn after_properties(mut text: &str) -> &str {
    while text.starts_with(['&', '!']) {
        text = text.trim_start_matches(|c: char| !c.is_whitespace()).trim_start();
    }
    text
}

fn unknown(line: usize) -> Unread {
    let what = "neither a compose file (no `services`) nor a Kubernetes object (no `apiVersion` and `kind`)";
    Unread { line, what: what.to_owned() }
}
