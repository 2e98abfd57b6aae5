//! JSON held against a JSON Schema (draft 7, or 2020-12), as far as the schemas go that are used here. Stricter in one thing: properties
//! that a schema does not name are wrong.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// Fails where `value` is not as `schema` has it; `schema` may refer to definitions of `root`.
pub fn check(value: &Value, schema: &Value, root: &Value, at: &str) -> Result<()> {
    for (keyword, rule) in schema.as_object().context("a schema that is no object")? {
        match keyword.as_str() {
            "$ref" => {
                let path = rule.as_str().and_then(|path| path.strip_prefix('#')).context("a foreign $ref")?;
                let target = root.pointer(path).with_context(|| format!("no {path} in the schema"))?;
                check(value, target, root, at)?;
            }
            "anyOf" => {
                let any = rule.as_array().context("anyOf")?;
                let errors: Vec<_> = any.iter().map_while(|of| check(value, of, root, at).err()).collect();
                ensure!(errors.len() < any.len(), "{at} is none of {}: {errors:#?}", any.len());
            }
            "type" => {
                let types = rule.as_array().map_or(std::slice::from_ref(rule), Vec::as_slice);
                let is_one = types.iter().filter_map(Value::as_str).any(|of| is_of(value, of));
                ensure!(is_one, "{at} is no {rule}: {value}");
            }
            "minimum" => {
                let too_little =
                    value.as_f64().zip(rule.as_f64()).is_some_and(|(value, least)| value < least);
                ensure!(!too_little, "{at} is {value}, below {rule}");
            }
            "minItems" | "maxItems" => {
                let count = value.as_array().map(|items| items.len() as u64);
                let wrong = count.zip(rule.as_u64()).is_some_and(|(count, bound)| match keyword.as_str() {
                    "minItems" => count < bound,
                    _ => count > bound,
                });
                ensure!(!wrong, "{at} has another {keyword} than {rule}: {value}");
            }
            "additionalProperties" if rule == &Value::Bool(true) => {}
            "additionalProperties" => {
                for (name, property) in value.as_object().into_iter().flatten() {
                    check(property, rule, root, &format!("{at}.{name}"))?;
                }
            }
            "const" => ensure!(value == rule, "{at} is {value}, not {rule}"),
            "enum" => ensure!(
                rule.as_array().context("enum")?.contains(value),
                "{at} is {value}, not one of {rule}"
            ),
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(item, rule, root, &format!("{at}[{index}]"))?;
                }
            }
            "properties" => {
                let others = schema.get("additionalProperties") == Some(&Value::Bool(true));
                for (name, property) in value.as_object().into_iter().flatten() {
                    if others && rule.get(name).is_none() {
                        continue;
                    }
                    let rule =
                        rule.get(name).with_context(|| format!("{at} has {name}, which is not known"))?;
                    check(property, rule, root, &format!("{at}.{name}"))?;
                }
            }
            "required" => {
                for name in rule.as_array().context("required")? {
                    let name = name.as_str().context("a required name")?;
                    ensure!(value.get(name).is_some(), "{at} has no {name}");
                }
            }
            "title" | "description" | "$schema" | "definitions" | "$defs" => {}
            other => bail!("the schema has {other}, which is not looked at here"),
        }
    }
    Ok(())
}

fn is_of(value: &Value, r#type: &str) -> bool {
    match r#type {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        _ => false,
    }
}
