//! JSON held against a JSON Schema (draft 7), as far as the schemas go that are used here. Stricter in one thing: properties
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
                ensure!(is_of(value, rule.as_str().context("several types")?), "{at} is no {rule}: {value}")
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
                for (name, property) in value.as_object().into_iter().flatten() {
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
            "title" | "description" | "$schema" | "definitions" => {}
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
        "boolean" => value.is_boolean(),
        _ => false,
    }
}
