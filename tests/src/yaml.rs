//! YAML as strict readers of it read it: no aliases, no tags, no key twice. Plain words and numbers
//! become what YAML 1.1 and Go make of them (`0755` is octal), all else is text.

use anyhow::{Context, Result, bail};
use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Value};

/// The one document in `text`.
pub fn parse(text: &str) -> Result<Value> {
    let mut events = Parser::new_from_str(text);
    let mut root = None;
    loop {
        match next(&mut events)? {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => (),
            event if root.is_none() => root = Some(node(event, &mut events)?),
            event => bail!("a second document: {event:?}"),
        }
    }
    root.context("no document")
}

fn next<'a>(events: &mut Parser<'a, StrInput<'a>>) -> Result<Event<'a>> {
    Ok(events.next().context("it ends too early")??.0)
}

fn node<'a>(event: Event<'a>, events: &mut Parser<'a, StrInput<'a>>) -> Result<Value> {
    match event {
        Event::Scalar(text, ScalarStyle::Plain, 0, None) => Ok(plain(&text)),
        Event::Scalar(text, _, 0, None) => Ok(Value::String(text.into_owned())),
        Event::SequenceStart(0, None) => {
            let mut list = Vec::new();
            loop {
                match next(events)? {
                    Event::SequenceEnd => return Ok(Value::Array(list)),
                    event => list.push(node(event, events)?),
                }
            }
        }
        Event::MappingStart(0, None) => {
            let mut map = Map::new();
            loop {
                let key = match next(events)? {
                    Event::MappingEnd => return Ok(Value::Object(map)),
                    Event::Scalar(key, ..) => key.into_owned(),
                    event => bail!("no key: {event:?}"),
                };
                let event = next(events)?;
                let value = node(event, events)?;
                if map.insert(key.clone(), value).is_some() {
                    bail!("{key} is there twice");
                }
            }
        }
        event => bail!("{event:?}"),
    }
}

fn plain(text: &str) -> Value {
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "" | "~" | "null" => Value::Null,
        octal if octal.len() > 1 && octal.starts_with('0') => match i64::from_str_radix(octal, 8) {
            Ok(number) => number.into(),
            Err(_) => octal.into(),
        },
        text => match text.parse::<i64>() {
            Ok(number) => number.into(),
            Err(_) => text.into(),
        },
    }
}
