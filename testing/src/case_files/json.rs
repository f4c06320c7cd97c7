//! JSON files: bounded in size and depth; each name occurs at most once per object.

use std::fmt;
use std::path::Path;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::{Map, Number, Value};
use warpconv::files;

/// Reads a file.
///
/// # Errors
/// One sentence that names the file, the position and the remedy: if the file cannot be read, is
/// not JSON, has a duplicate name in an object, a number beyond f64, or more than 127 levels.
pub fn read(path: &Path) -> Result<Value, String> {
    let named = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
    let text = files::text(path, files::JSON).map_err(|error| named(&error))?;
    parse(&text).map_err(|why| named(&why))
}

fn parse(text: &str) -> Result<Value, String> {
    let parsed = serde_json::from_str(text).map(|Unique(value)| value);
    parsed.map_err(|error| {
        let way_out = match error.classify() {
            Category::Eof => "the file is cut off: write it anew",
            _ => "correct it there",
        };
        format!("not usable as JSON: {error}; {way_out}")
    })
}

/// A value whose objects have no duplicate names. serde_json's own type keeps the last duplicate,
/// so that two readers of one file may see different cases.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Unique, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Unique)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).map(Value::Number);
        number.ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unique(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = object.next_key::<String>()? {
            if members.contains_key(&name) {
                let shown: String = name.chars().take(40).collect();
                return Err(de::Error::custom(format!(
                    "{shown:?} stands twice in one object"
                )));
            }
            let Unique(value) = object.next_value()?;
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_serde_json_reads_is_read_as_it_does() {
        for text in [
            "null",
            "[true, false, -3, 18446744073709551615, 0.1, 1e300, \"a\\u00e4\"]",
            "{\"b\": {\"a\": []}, \"a\": {}}",
        ] {
            let expected: Value = serde_json::from_str(text).expect("JSON");
            assert_eq!(parse(text), Ok(expected));
        }
    }

    #[test]
    fn what_two_readers_may_see_differently_is_refused() {
        for (text, word) in [
            (
                "{\"a\": 1, \"b\": [{\"c\": 2, \"c\": 3}]}",
                "\"c\" stands twice",
            ),
            ("[1e999]", "out of range"),
            ("[1", "cut off"),
            (&"[".repeat(100_000), "recursion limit"),
        ] {
            let why = parse(text).expect_err("hostile");
            assert!(why.contains(word) && why.len() < 200, "{why}");
        }
    }
}
