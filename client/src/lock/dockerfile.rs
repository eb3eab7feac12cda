//! Images in a Dockerfile: `FROM`, `COPY --from=`, `RUN --mount=from=` and `# syntax=`, as BuildKit reads them.

use std::{collections::BTreeMap, ops::Range};

use super::{Item, Opaque, Place, Unread};

/// A word of an instruction.
#[derive(Debug, Clone)]
struct Word {
    /// Its bytes in the file; of its first part, if it goes on in another line.
    span: Range<usize>,
    text: String,
    /// It goes on after the end of a line.
    broken: bool,
}

/// An instruction with all its lines.
struct Instruction {
    line: usize,
    words: Vec<Word>,
}

/// The default of a build argument that is declared before the first `FROM`.
struct Default {
    line: usize,
    /// None if there is none, or it is not plain.
    plain: Option<(Range<usize>, String)>,
}

#[derive(Default)]
struct Reader {
    arguments: BTreeMap<String, Default>,
    /// Arguments that name a base as a whole, and how often.
    bases: BTreeMap<String, usize>,
    /// The names of the stages so far, lower case; empty for one without.
    stages: Vec<String>,
    items: Vec<Item>,
}

pub(super) fn images(text: &str) -> Result<Vec<Item>, Unread> {
    let mut reader = Reader { items: frontends(text)?, ..Reader::default() };
    for instruction in instructions(text)? {
        reader.read(&instruction)?;
    }
    reader.finish(text);
    Ok(reader.items)
}

impl Reader {
    fn read(&mut self, instruction: &Instruction) -> Result<(), Unread> {
        let mut words = instruction.words.as_slice();
        if words.first().is_some_and(|word| word.text.eq_ignore_ascii_case("onbuild")) {
            words = &words[1..];
        }
        let Some((name, rest)) = words.split_first() else { return Ok(()) };
        let flags = rest.iter().take_while(|word| word.text.starts_with("--")).count();
        let (flags, rest) = rest.split_at(flags);
        match name.text.to_ascii_lowercase().as_str() {
            "from" => self.from(instruction.line, rest)?,
            "arg" if self.stages.is_empty() => self.argument(instruction.line, rest),
            "copy" => {
                for flag in flags {
                    if is_odd(flag, "--from") {
                        self.items.push(Item::opaque(instruction.line, &flag.text, Opaque::Spelling));
                    } else if let Some(image) = after(flag, "--from=") {
                        self.used(instruction.line, &image);
                    }
                }
            }
            "run" => {
                for flag in flags {
                    if is_odd(flag, "--mount") {
                        self.items.push(Item::opaque(instruction.line, &flag.text, Opaque::Spelling));
                    } else if let Some(mount) = after(flag, "--mount=") {
                        for image in parts(&mount).iter().filter_map(|part| after_key(part, "from")) {
                            self.used(instruction.line, &image);
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// `FROM [--platform=…] IMAGE [AS NAME]`.
    fn from(&mut self, line: usize, words: &[Word]) -> Result<(), Unread> {
        let (image, stage) = match words {
            [image] => (image, ""),
            [image, r#as, name] if r#as.text.eq_ignore_ascii_case("as") => (image, name.text.as_str()),
            _ => {
                return Err(Unread {
                    line,
                    what: "FROM is followed by IMAGE, or by IMAGE AS NAME".to_owned(),
                });
            }
        };
        if image.text != "scratch" && !self.is_stage(&image.text) {
            match whole_variable(&image.text) {
                Some(name) if !image.broken => *self.bases.entry(name.to_owned()).or_default() += 1,
                _ => self.image(line, image),
            }
        }
        self.stages.push(stage.to_ascii_lowercase());
        Ok(())
    }

    /// An image that a stage takes something from; a stage by its name or number is none.
    fn used(&mut self, line: usize, word: &Word) {
        let stage = self.is_stage(&word.text) || word.text.bytes().all(|byte| byte.is_ascii_digit());
        if !stage && word.text != "scratch" {
            self.image(line, word);
        }
    }

    fn is_stage(&self, name: &str) -> bool {
        !name.is_empty() && self.stages.contains(&name.to_ascii_lowercase())
    }

    fn image(&mut self, line: usize, word: &Word) {
        let item = if word.broken || word.text.contains(['"', '\'', '\\', '`']) {
            Item::opaque(line, &word.text, Opaque::Spelling)
        } else {
            Item::new(line, &word.text, word.span.clone())
        };
        self.items.push(item);
    }

    /// `ARG NAME=VALUE…` before the first stage.
    fn argument(&mut self, line: usize, words: &[Word]) {
        for word in words {
            let (name, value) = match word.text.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word.text.as_str(), None),
            };
            let plain = value.filter(|_| !word.broken).and_then(|value| {
                let start = word.span.start + name.len() + 1;
                let inner =
                    ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
                let (start, value) = inner.map_or((start, value), |inner| (start + 1, inner));
                let odd = value.is_empty() || value.contains(['"', '\'', '\\', '`', '$']);
                (!odd).then(|| (start..start + value.len(), value.to_owned()))
            });
            self.arguments.insert(name.to_owned(), Default { line, plain });
        }
    }

    /// Bases that are the default of an argument: the default is what is locked, if the argument is nothing else.
    fn finish(&mut self, text: &str) {
        for (name, count) in std::mem::take(&mut self.bases) {
            let written = format!("${{{name}}}");
            let Some(Default { line, plain }) = self.arguments.get(&name) else {
                self.items.push(Item::opaque(line_of_use(text, &name), &written, Opaque::Variable));
                continue;
            };
            let item = match plain {
                Some((_, value)) if self.is_stage(value) || value == "scratch" => continue,
                Some((span, value)) if uses(text, &name) == count => Item::new(*line, value, span.clone()),
                _ => Item::opaque(*line, &written, Opaque::Argument { name }),
            };
            self.items.push(item);
        }
        // Two instructions may name one argument, and an argument one image: each place once.
        let mut seen = std::collections::BTreeSet::new();
        self.items.retain(|item| match &item.place {
            Place::At { span, .. } => seen.insert(span.start),
            Place::Opaque(_) => true,
        });
    }
}

/// The rest of `word` after `prefix`.
fn after(word: &Word, prefix: &str) -> Option<Word> {
    let text = word.text.strip_prefix(prefix)?.to_owned();
    Some(Word { span: word.span.start + prefix.len()..word.span.end, text, broken: word.broken })
}

/// The value of `word` if it is `key=VALUE`; upper and lower case are the same in the key.
fn after_key(word: &Word, key: &str) -> Option<Word> {
    let (written, _) = word.text.split_once('=')?;
    after(word, written).filter(|_| written.eq_ignore_ascii_case(key)).and_then(|rest| after(&rest, "="))
}

/// True if `flag` may be the flag `name` and only the builder's own reading tells what it says: quotes may end in another
/// word or begin inside the name, and the fields of a mount have quotes of their own.
fn is_odd(flag: &Word, name: &str) -> bool {
    let text = &flag.text;
    let is_open = |quote: char| text.matches(quote).count() % 2 == 1;
    if text == name || text.contains('\\') || is_open('"') || is_open('\'') {
        return true;
    }
    let quoted = text.contains(['"', '\'']);
    quoted && text.replace(['"', '\''], "").strip_prefix(name).is_some_and(|rest| rest.starts_with('='))
}

/// `word` at its commas.
fn parts(word: &Word) -> Vec<Word> {
    let mut at = word.span.start;
    let part = |text: &str| {
        let start = at;
        at += text.len() + 1;
        Word { span: start..start + text.len(), text: text.to_owned(), broken: word.broken }
    };
    word.text.split(',').map(part).collect()
}

/// The name of the variable that `text` is as a whole.
fn whole_variable(text: &str) -> Option<&str> {
    let name = text.strip_prefix('$')?;
    let name = name.strip_prefix('{').map_or(Some(name), |name| name.strip_suffix('}'))?;
    (!name.is_empty() && name.bytes().all(is_name)).then_some(name)
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// How often `text` uses the variable `name`, or declares the argument anew, which brings its default into a stage.
fn uses(text: &str, name: &str) -> usize {
    let used = places(text, name).count();
    let mut declared = 0;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if words.next().is_some_and(|word| word.eq_ignore_ascii_case("arg")) {
            declared += words.filter(|word| word.split('=').next() == Some(name)).count();
        }
    }
    used + declared.saturating_sub(1)
}

/// Where `$name` or `${name` stands.
fn places<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices('$').map(|(at, _)| at).filter(move |&at| {
        let rest = &text[at + 1..];
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        rest.strip_prefix(name).is_some_and(|rest| !rest.bytes().next().is_some_and(is_name))
    })
}

fn line_of_use(text: &str, name: &str) -> usize {
    line_at(text, places(text, name).next().unwrap_or(0))
}

fn line_at(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The instructions of `text`, comments and here-documents left out.
fn instructions(text: &str) -> Result<Vec<Instruction>, Unread> {
    let escape = escape(text);
    let mut instructions = Vec::new();
    let mut open: Option<Instruction> = None;
    let mut lines = lines(text).enumerate();
    while let Some((number, (start, line))) = lines.next() {
        let blank = line.trim_start();
        if blank.is_empty() || blank.starts_with('#') {
            // Inside an instruction too.
            continue;
        }
        let body = continued(line, escape);
        let instruction = open.get_or_insert_with(|| Instruction { line: number + 1, words: Vec::new() });
        add_words(&mut instruction.words, start, body.unwrap_or(line), body.is_some());
        if body.is_some() {
            continue;
        }
        let instruction = open.take().expect("just inserted");
        for end in heredocs(&instruction) {
            let ends = |line: &str| line.trim_start_matches(if end.tabs { "\t" } else { "" }) == end.word;
            if !lines.by_ref().any(|(_, (_, line))| ends(line)) {
                let what = format!("the here-document <<{} does not end", end.word);
                return Err(Unread { line: instruction.line, what });
            }
        }
        instructions.push(instruction);
    }
    instructions.extend(open);
    Ok(instructions)
}

/// The lines of `text` without their ends, and where each begins.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    text.split_inclusive('\n').map(move |line| {
        let start = at;
        at += line.len();
        let line = line.strip_suffix('\n').unwrap_or(line);
        let line = line.strip_suffix('\r').unwrap_or(line);
        // A byte order mark is no part of the first word.
        match line.strip_prefix('\u{feff}') {
            Some(rest) if start == 0 => ('\u{feff}'.len_utf8(), rest),
            _ => (start, line),
        }
    })
}

/// A directive at the top of the file.
struct Directive<'a> {
    line: usize,
    /// Lower case.
    name: String,
    value: &'a str,
    /// Where the value begins.
    start: usize,
}

/// The directives in the comments at the top that begin with `mark`, after `passed` lines. The first line that is none ends
/// them, and so does a name that is not known.
fn directives<'a>(text: &'a str, mark: &str, passed: usize) -> Vec<Directive<'a>> {
    let mut directives = Vec::new();
    for (number, (start, line)) in lines(text).enumerate().skip(passed) {
        let Some(directive) = line.trim_start().strip_prefix(mark) else { break };
        let Some((name, value)) = directive.split_once('=') else { break };
        let (name, trimmed) = (name.trim().to_ascii_lowercase(), value.trim());
        if !matches!(name.as_str(), "check" | "escape" | "syntax") || trimmed.is_empty() {
            break;
        }
        let start = start + line.len() - value.trim_start().len();
        directives.push(Directive { line: number + 1, name, value: trimmed, start });
    }
    directives
}

/// The escape character: `\`, unless a directive says otherwise.
fn escape(text: &str) -> char {
    let escape = directives(text, "#", 0).into_iter().find(|directive| directive.name == "escape");
    if escape.is_some_and(|directive| directive.value == "`") { '`' } else { '\\' }
}

/// The image that reads the file in BuildKit's place: the first word of the directive `syntax`, in one of the forms in which
/// BuildKit looks for it. It passes over a first line that begins with `#!`.
fn frontends(text: &str) -> Result<Vec<Item>, Unread> {
    let passed = usize::from(lines(text).next().is_some_and(|(_, line)| line.starts_with("#!")));
    let first = lines(text).enumerate().skip(passed).find(|(_, (_, line))| !line.trim().is_empty());
    if let Some((number, _)) = first.filter(|(_, (_, line))| line.trim_start().starts_with('{')) {
        let what = "it begins like JSON, in which BuildKit looks for a `syntax`: name that as `# syntax=`"
            .to_owned();
        return Err(Unread { line: number + 1, what });
    }
    let all = ["#", "//"].into_iter().flat_map(|mark| directives(text, mark, passed));
    let frontends = all.filter(|directive| directive.name == "syntax").map(|directive| {
        let image = directive.value.split_ascii_whitespace().next().unwrap_or_default();
        Item::new(directive.line, image, directive.start..directive.start + image.len())
    });
    Ok(frontends.collect())
}

/// What stands before the escape at the end of `line`, if it goes on in the next.
fn continued(line: &str, escape: char) -> Option<&str> {
    let body = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!body.ends_with(escape)).then_some(body)
}

fn add_words(words: &mut Vec<Word>, start: usize, body: &str, goes_on: bool) {
    // A word that touches the end of the line before goes on here, and is not one piece.
    let joined = words.last().is_some_and(|word| word.broken) && !body.starts_with([' ', '\t']);
    if let Some(word) = words.last_mut().filter(|_| !joined) {
        word.broken = false;
    }
    let mut at = 0;
    for text in body.split_inclusive([' ', '\t']) {
        let word = text.trim_end_matches([' ', '\t']);
        match words.last_mut() {
            Some(last) if joined && at == 0 => last.text.push_str(word),
            _ if word.is_empty() => {}
            _ => {
                let span = start + at..start + at + word.len();
                words.push(Word { span, text: word.to_owned(), broken: false });
            }
        }
        at += text.len();
    }
    if goes_on && !body.ends_with([' ', '\t']) && !body.is_empty() {
        // Perhaps: the next line tells.
        if let Some(word) = words.last_mut() {
            word.broken = true;
        }
    }
}

/// The end of a here-document.
struct End {
    word: String,
    /// Tabs before it do not count.
    tabs: bool,
}

/// The here-documents that follow `instruction`, in order.
fn heredocs(instruction: &Instruction) -> Vec<End> {
    let name = instruction.words.iter().find(|word| !word.text.eq_ignore_ascii_case("onbuild"));
    let takes =
        |name: &Word| ["run", "copy", "add"].iter().any(|known| name.text.eq_ignore_ascii_case(known));
    if !name.is_some_and(takes) {
        return Vec::new();
    }
    let line: Vec<&str> = instruction.words.iter().map(|word| word.text.as_str()).collect();
    shell_words(&line.join(" ")).iter().filter_map(|word| heredoc(word)).collect()
}

/// `<<WORD`, `<<-WORD`, each with a file descriptor before it or quotes around the word.
fn heredoc(word: &str) -> Option<End> {
    let word = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (word, tabs) = word.strip_prefix('-').map_or((word, false), |word| (word, true));
    let word: String = word.chars().filter(|c| !matches!(c, '"' | '\'')).collect();
    (!word.is_empty() && !word.contains('<')).then_some(End { word, tabs })
}

/// `line` at the white space that is not quoted; quotes stay.
fn shell_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut escaped) = (Vec::new(), String::new(), None, false);
    for c in line.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote != Some('\'') => escaped = true,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            _ if quote == Some(c) => quote = None,
            ' ' | '\t' if quote.is_none() => {
                words.push(std::mem::take(&mut word));
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    words.push(word);
    words
}
