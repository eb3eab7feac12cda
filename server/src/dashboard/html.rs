//! HTML that cannot be broken out of: markup comes from the program, everything else is escaped.

use std::fmt::Display;

/// A piece of a page in the making.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Markup. Only what stands in the program can be given here, so nothing that was sent ever is.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Text, between tags or inside of a quoted attribute.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        escape(&text.to_string(), &mut self.0);
        self
    }

    /// `<tag>text</tag>`, where `open` is `<tag>` with its attributes.
    pub(super) fn element(
        &mut self,
        open: &'static str,
        text: impl Display,
        close: &'static str,
    ) -> &mut Self {
        self.raw(open).text(text).raw(close)
    }

    /// A number in an attribute of a picture, with one digit after the point.
    pub(super) fn at(&mut self, number: f64) -> &mut Self {
        self.0.push_str(&format!("{number:.1}"));
        self
    }

    /// What was made.
    pub(super) fn into_string(self) -> String {
        self.0
    }
}

/// Escapes everything that ends a text or a quoted attribute, and shows what would not be seen: control characters, and those
/// that turn the direction of what follows.
fn escape(text: &str, into: &mut String) {
    for c in text.chars() {
        match c {
            '&' => into.push_str("&amp;"),
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '"' => into.push_str("&quot;"),
            '\'' => into.push_str("&#39;"),
            '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{61c}'
            | '\u{feff}' => {
                into.push('\u{fffd}');
            }
            c if c.is_control() => into.push('\u{fffd}'),
            c => into.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_never_becomes_markup() {
        let mut html = Html::default();
        html.raw("<p title=\"").text("\" onclick='x'").raw("\">");
        html.text("</p><script>&lt;\u{202e}\u{7}\n").raw("</p>");
        let expected = "<p title=\"&quot; onclick=&#39;x&#39;\">&lt;/p&gt;&lt;script&gt;&amp;lt;\u{fffd}\u{fffd}\u{fffd}</p>";
        assert_eq!(html.into_string(), expected);
    }
}
