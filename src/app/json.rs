//! The form of all JSON that the program writes: see `config/output.schema.json`. Pure.

use serde::Serialize;

/// The version of the JSON's form. A change that is no addition raises it. See `config/output.schema.json`.
pub(crate) const SCHEMA: u32 = 1;

/// One JSON object on one line.
pub(crate) fn to_json(report: &impl Serialize) -> String {
    // Finite numbers, booleans and strings under string keys cannot fail to become JSON.
    serde_json::to_string(report).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
}
