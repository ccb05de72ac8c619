//! Source-text templates.

use std::fmt;

/// A text with fields in braces, like `premise: {premise} hypothesis: {hypothesis}`.
///
/// `{name}` stands for the field's text as it is in the file; `{{` and `}}` stand for the braces
/// themselves. There is nothing else to the language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
    fields: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// Index into the template's fields.
    Field(usize),
}

/// Why a template cannot be read. Positions count characters from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A `{` without its `}`.
    #[error("the '{{' at character {0} is never closed; write '{{{{' for a brace in the text")]
    Unclosed(usize),
    /// A `}` without a `{` before it.
    #[error("the '}}' at character {0} closes nothing; write '}}}}' for a brace in the text")]
    Unopened(usize),
    /// `{}` or a field of spaces.
    #[error("the braces at character {0} name no field")]
    NoName(usize),
    /// Not one field, so that all source texts would be equal.
    #[error("it has no field; name a column in braces, like \"review: {{text}}\"")]
    NoField,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// When braces do not match, name no field, or do not occur at all.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut template = Self { pieces: Vec::new(), fields: Vec::new() };
        let mut literal = String::new();
        let mut chars = (1..).zip(text.chars()).peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                '{' | '}' if chars.next_if(|(_, next)| *next == c).is_some() => literal.push(c),
                '}' => return Err(TemplateError::Unopened(at)),
                '{' => {
                    let mut name = String::new();
                    loop {
                        match chars.next() {
                            Some((_, '}')) => break,
                            None | Some((_, '{')) => return Err(TemplateError::Unclosed(at)),
                            Some((_, c)) => name.push(c),
                        }
                    }
                    if name.trim().is_empty() {
                        return Err(TemplateError::NoName(at));
                    }
                    if !literal.is_empty() {
                        template.pieces.push(Piece::Text(std::mem::take(&mut literal)));
                    }
                    template.push_field(name.trim());
                }
                c => literal.push(c),
            }
        }
        if !literal.is_empty() {
            template.pieces.push(Piece::Text(literal));
        }
        if template.fields.is_empty() { Err(TemplateError::NoField) } else { Ok(template) }
    }

    fn push_field(&mut self, name: &str) {
        let known = self.fields.iter().position(|field| field == name);
        let index = known.unwrap_or_else(|| {
            self.fields.push(name.to_owned());
            self.fields.len() - 1
        });
        self.pieces.push(Piece::Field(index));
    }

    /// The fields, each once, in the order of their first use.
    #[must_use]
    pub fn fields(&self) -> &[String] {
        &self.fields
    }

    /// Fills in the fields; `value` gives the text of one. What it does not know stays empty.
    pub fn render<'v>(&self, value: impl Fn(&str) -> Option<&'v str>) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(literal) => text.push_str(literal),
                Piece::Field(index) => {
                    let filled = self.fields.get(*index).and_then(|field| value(field));
                    text.push_str(filled.unwrap_or_default());
                }
            }
        }
        text
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => {
                    f.write_str(&text.replace('{', "{{").replace('}', "}}"))?;
                }
                Piece::Field(index) => {
                    let name = self.fields.get(*index).map_or("", String::as_str);
                    write!(f, "{{{name}}}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_and_escapes() {
        let template = Template::parse("{{x}} a: {a} b: { b }{a}").unwrap();
        assert_eq!(template.fields(), ["a", "b"]);
        assert_eq!(template.render(|field| (field == "a").then_some("{b}")), "{x} a: {b} b: {b}");
        assert_eq!(template.to_string(), "{{x}} a: {a} b: {b}{a}");
    }

    #[test]
    fn errors_say_where() {
        let error = |text| Template::parse(text).unwrap_err();
        assert_eq!(error("é {a"), TemplateError::Unclosed(3));
        assert_eq!(error("{a{b}"), TemplateError::Unclosed(1));
        assert_eq!(error("a}"), TemplateError::Unopened(2));
        assert_eq!(error("x { }"), TemplateError::NoName(3));
        assert_eq!(error("{{a}}"), TemplateError::NoField);
        assert_eq!(
            error("{a").to_string(),
            "the '{' at character 1 is never closed; write '{{' for a brace in the text"
        );
    }

    proptest! {
        #[test]
        fn never_panics_and_reads_its_own_text(text in "[a-c{} ]{0,24}") {
            if let Ok(template) = Template::parse(&text) {
                prop_assert_eq!(&Template::parse(&template.to_string()).unwrap(), &template);
            }
        }

        #[test]
        fn any_text_around_a_field_survives(before in ".*", after in ".*", value in ".*") {
            let escape = |text: &str| text.replace('{', "{{").replace('}', "}}");
            // A space keeps a brace at the edge apart from the field's own.
            let text = format!("{} {{field}} {}", escape(&before), escape(&after));
            let rendered = Template::parse(&text).unwrap().render(|_| Some(value.as_str()));
            prop_assert_eq!(rendered, format!("{before} {value} {after}"));
        }
    }
}
