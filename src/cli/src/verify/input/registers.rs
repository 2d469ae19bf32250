//! Register values as people have them: JSON, `{"sha256": {"0": "hex"}}`, or what tpm2_pcrread prints.

use std::collections::BTreeMap;

use touchmark_attestor_tpm::PcrValues;
use touchmark_crypto::{HashAlg, jose::json};

use super::bank;

/// Reads values of either form; each has to be one of a register that there is, as long as its bank's digests.
pub(super) fn read(text: &str) -> Result<PcrValues, String> {
    let values = if text.trim_start().starts_with('{') {
        from_json(text)?
    } else {
        from_tools(text)?
    };
    if values.values().all(BTreeMap::is_empty) {
        return Err(
            "no register values; give {\"sha256\": {\"0\": \"hex\"}}, or what tpm2_pcrread prints".to_owned(),
        );
    }
    Ok(values)
}

fn from_json(text: &str) -> Result<PcrValues, String> {
    let banks = json::object(text.as_bytes()).map_err(|error| format!("not register values: {error}"))?;
    let mut out = PcrValues::new();
    for (name, registers) in &banks {
        let bank = known(name)?;
        let registers = registers
            .as_object()
            .ok_or_else(|| format!("{name}: not an object of register numbers and values"))?;
        for (index, value) in registers {
            let value = value
                .as_str()
                .ok_or_else(|| format!("{name}, register {index}: not text"))?;
            let value = value_of(bank, index, value)?;
            let index = number(name, index)?;
            if out.entry(bank).or_default().insert(index, value).is_some() {
                return Err(format!("{name}: register {index} is there twice"));
            }
        }
    }
    Ok(out)
}

fn from_tools(text: &str) -> Result<PcrValues, String> {
    let mut out = PcrValues::new();
    let mut current = None;
    for (line, text) in (1..).zip(text.lines().map(str::trim)) {
        if text.is_empty() {
            continue;
        }
        let at = |why: String| format!("line {line}: {why}");
        let (name, value) = text
            .split_once(':')
            .ok_or_else(|| at("neither a bank nor a register with its value".to_owned()))?;
        let (name, value) = (name.trim(), value.trim());
        match (value.is_empty(), current) {
            (true, _) => current = Some(known(name).map_err(at)?),
            (false, Some(bank)) => {
                let value = value_of(bank, name, value).map_err(at)?;
                let index = number(bank.name(), name).map_err(at)?;
                if out.entry(bank).or_default().insert(index, value).is_some() {
                    return Err(at(format!("register {index} is there twice")));
                }
            }
            (false, None) => return Err(at("a value before any bank is named (sha256:)".to_owned())),
        }
    }
    Ok(out)
}

fn known(name: &str) -> Result<HashAlg, String> {
    bank(name).ok_or_else(|| format!("{name:?} is no bank; there are sha1, sha256, sha384 and sha512"))
}

fn number(bank: &str, index: &str) -> Result<u8, String> {
    let number = index.parse::<u8>().ok().filter(|index| *index < 24);
    number.ok_or_else(|| format!("{bank}: {index:?} is no register; there are 0 to 23"))
}

fn value_of(bank: HashAlg, index: &str, text: &str) -> Result<Vec<u8>, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    hex::decode(digits)
        .ok()
        .filter(|value| value.len() == bank.len())
        .ok_or_else(|| {
            format!(
                "{}, register {index}: not {} hexadecimal digits",
                bank.name(),
                bank.len() * 2
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_read_and_what_is_wrong_is_named() {
        let value = "07".repeat(32);
        let json = format!("{{\"sha256\": {{\"0\": \"{value}\", \"23\": \"{value}\"}}}}");
        let tools = format!(
            "  sha256:\n    0 : 0x{value}\n    23: 0x{}\n",
            value.to_uppercase()
        );
        assert_eq!(read(&json), read(&tools));
        assert_eq!(read(&json).unwrap()[&HashAlg::Sha256].len(), 2);
        for (text, why) in [
            (json.replace("23", "24"), "\"24\" is no register"),
            (json.replace("sha256", "SHA256"), "\"SHA256\" is no bank"),
            (json.replace("0707", "07"), "not 64 hexadecimal digits"),
            (json.replace("23", "0"), "twice"),
            (tools.replace("23:", "0:"), "line 3: register 0 is there twice"),
            (tools.replace("0x0", "0xg"), "line 2: sha256, register 0"),
            ("0: 00".to_owned(), "before any bank"),
            ("{}".to_owned(), "no register values"),
            (String::new(), "no register values"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(why), "{error} / {why}");
        }
    }
}
