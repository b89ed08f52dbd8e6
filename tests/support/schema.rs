//! Checks JSON against a JSON Schema: `config/output.schema.json` and all that the program prints.
//!
//! It knows the keywords that this schema uses, and panics at any other one: nothing in a schema is passed over.

use serde_json::{Map, Value};

/// Keywords that say nothing about a value.
const NOTES: [&str; 4] = ["$schema", "$defs", "title", "description"];

/// A schema, with what its references name.
pub struct Schema(Value);

impl Schema {
    /// The schema of the program's output.
    pub fn of_the_output() -> Schema {
        let text = include_str!("../../config/output.schema.json");
        Schema(serde_json::from_str(text).expect("a schema is JSON"))
    }

    /// A schema that a test makes.
    pub fn new(schema: Value) -> Schema {
        Schema(schema)
    }

    /// Returns every offence of the value, with its place; none if the value fits.
    pub fn offences(&self, value: &Value) -> Vec<String> {
        let mut offences = Vec::new();
        self.look(&self.0, value, "$", &mut offences);
        offences
    }

    fn look(&self, schema: &Value, value: &Value, place: &str, offences: &mut Vec<String>) {
        let schema = schema.as_object().expect("a schema is an object");
        let mut offend = |what: String| offences.push(format!("{place}: {what}"));
        let mut inside: Vec<(&Value, &Value, String)> = Vec::new();
        for (keyword, rule) in schema {
            match keyword.as_str() {
                note if NOTES.contains(&note) => {}
                "$ref" => inside.push((self.named(rule), value, place.to_owned())),
                "const" if value != rule => offend(format!("{value} is not {rule}")),
                "enum" if !list(rule).contains(value) => {
                    offend(format!("{value} is none of {rule}"))
                }
                "type" if !has_type(value, rule) => offend(format!("{value} is not {rule}")),
                "minimum" if value.as_f64().is_some_and(|it| it < number(rule)) => {
                    offend(format!("{value} is below {rule}"));
                }
                "required" => {
                    for name in list(rule) {
                        let name = name.as_str().expect("a name is a text");
                        if value.is_object() && value.get(name).is_none() {
                            offend(format!("{name} is missing"));
                        }
                    }
                }
                "properties" => {
                    for (name, schema) in fields(rule) {
                        if let Some(value) = value.get(name) {
                            inside.push((schema, value, format!("{place}.{name}")));
                        }
                    }
                }
                "additionalProperties" => {
                    assert_eq!(rule, false, "only false is known");
                    let known = fields(&schema["properties"]);
                    let all = value.as_object().into_iter().flatten();
                    for (name, _) in all.filter(|(name, _)| !known.contains_key(*name)) {
                        offend(format!("{name} is not known"));
                    }
                }
                "items" => {
                    let items = value.as_array().into_iter().flatten();
                    let placed = items.enumerate();
                    inside.extend(placed.map(|(n, it)| (rule, it, format!("{place}[{n}]"))));
                }
                "oneOf" => {
                    let tried: Vec<Vec<String>> = list(rule)
                        .iter()
                        .map(|schema| {
                            let mut offences = Vec::new();
                            self.look(schema, value, place, &mut offences);
                            offences
                        })
                        .collect();
                    let fitting = tried.iter().filter(|offences| offences.is_empty()).count();
                    if fitting != 1 {
                        let nearest = tried.iter().min_by_key(|offences| offences.len());
                        offend(format!("fits {fitting} forms, not one: {nearest:?}"));
                    }
                }
                "const" | "enum" | "type" | "minimum" => {}
                other => panic!("the keyword {other:?} is not known here"),
            }
        }
        for (schema, value, place) in inside {
            self.look(schema, value, &place, offences);
        }
    }

    fn named(&self, reference: &Value) -> &Value {
        let path = reference.as_str().and_then(|text| text.strip_prefix('#'));
        let found = path.and_then(|path| self.0.pointer(path));
        found.unwrap_or_else(|| panic!("{reference} names nothing"))
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn fields(value: &Value) -> &Map<String, Value> {
    value.as_object().expect("fields")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// One of the types, where there are several.
fn has_type(value: &Value, types: &Value) -> bool {
    let has = |name: &Value| match name.as_str() {
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => panic!("the type {name} is not known here"),
    };
    types
        .as_array()
        .map_or_else(|| has(types), |all| all.iter().any(has))
}
