//! What Python's `str()` makes of a value, for targets that the authors' code makes so.

use serde_json::Value;

/// `str(value)`: texts in quotation marks within lists and tables, but not alone.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => {
            let mut out = String::new();
            repr(other, &mut out);
            out
        }
    }
}

fn repr(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => quoted(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                repr(item, out);
            }
            out.push(']');
        }
        Value::Object(object) => {
            // The published answers name their texts first; the other keys in a fixed order.
            let mut keys: Vec<&String> = object.keys().collect();
            keys.sort_unstable_by_key(|key| (*key != "text", *key));
            out.push('{');
            for (index, key) in keys.into_iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                quoted(key, out);
                out.push_str(": ");
                object.get(key).into_iter().for_each(|value| repr(value, out));
            }
            out.push('}');
        }
    }
}

fn quoted(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push(quote);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_python_writes_it() {
        let value = serde_json::json!({"answer_start": [515], "text": ["it's", "a \"b\"'c\n"]});
        assert_eq!(text(&value), r#"{'text': ["it's", 'a "b"\'c\n'], 'answer_start': [515]}"#);
        assert_eq!(text(&serde_json::json!([null, true, 1.5])), "[None, True, 1.5]");
        assert_eq!(text(&serde_json::json!("a'b")), "a'b");
    }
}
