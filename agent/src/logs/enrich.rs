//! Fields added to each record, from constants and facts.

use crate::facts::Facts;

/// How the text of a field becomes fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parse {
    /// The field whose JSON object is merged into the record; None: nothing is parsed. Default `log`.
    pub json_field: Option<String>,
    /// Keep the raw field beside the parsed keys. Default false.
    pub keep_raw: bool,
}

impl Default for Parse {
    fn default() -> Parse {
        Parse {
            json_field: Some("log".into()),
            keep_raw: false,
        }
    }
}

/// `"${node.region}-x"`: literal text and facts, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(pub Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    /// The fact's name: `region` in `${node.region}`.
    Node(String),
}

impl Template {
    /// Err(text) names what is wrong with it.
    pub fn parse(text: &str) -> Result<Template, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            if start > 0 {
                pieces.push(Piece::Text(rest[..start].into()));
            }
            let Some(length) = rest[start..].find('}') else {
                return Err(format!("no closing brace after {:?}", &rest[start..]));
            };
            let name = &rest[start + 2..start + length];
            match name.strip_prefix("node.") {
                Some(fact) if !fact.is_empty() => pieces.push(Piece::Node(fact.into())),
                _ => {
                    return Err(format!(
                        "unknown placeholder ${{{name}}}: use ${{node.NAME}}"
                    ));
                }
            }
            rest = &rest[start + length + 1..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        Ok(Template(pieces))
    }

    /// The text, or None while a fact that it needs is unknown.
    pub fn render(&self, facts: &Facts) -> Option<String> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(literal) => text.push_str(literal),
                Piece::Node(name) => text.push_str(facts.get(name)?),
            }
        }
        Some(text)
    }
}

/// One record's way through parsing and enrichment, with the facts of now baked in.
pub struct Shaper {}

impl Shaper {
    pub fn new(_parse: &Parse, _enrich: &[(String, Template)], _facts: &Facts) -> Shaper {
        todo!()
    }
}
