//! Number literals.

use crate::ptx::ast::Value;

/// Parses a literal without sign; `None` if it is invalid or does not fit 64 bits.
pub fn literal(text: &str) -> Option<Value<'static>> {
    let bytes = text.as_bytes();
    if bytes.len() > 2 && bytes[0] == b'0' {
        match bytes[1] {
            b'f' | b'F' => {
                return (text.len() == 10)
                    .then(|| u32::from_str_radix(&text[2..], 16).ok())
                    .flatten()
                    .map(Value::F32);
            }
            b'd' | b'D' => {
                return (text.len() == 18)
                    .then(|| u64::from_str_radix(&text[2..], 16).ok())
                    .flatten()
                    .map(Value::F64);
            }
            _ => {}
        }
    }
    if let Some(value) = integer(text) {
        return Some(Value::Int(value));
    }
    let real = bytes.iter().any(|byte| b".eE".contains(byte))
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_digit() || b".eE+-".contains(byte));
    real.then(|| text.parse::<f64>().ok())
        .flatten()
        .map(|value| Value::F64(value.to_bits()))
}

/// Parses an integer literal: decimal, hexadecimal, octal or binary, with an optional suffix `U`.
pub fn integer(text: &str) -> Option<u64> {
    let text = text.strip_suffix(['U', 'u']).unwrap_or(text);
    let bytes = text.as_bytes();
    if bytes.len() < 2 || bytes[0] != b'0' {
        return text.parse().ok();
    }
    match bytes[1] {
        b'x' | b'X' => u64::from_str_radix(&text[2..], 16).ok(),
        b'b' | b'B' => u64::from_str_radix(&text[2..], 2).ok(),
        _ => u64::from_str_radix(&text[1..], 8).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals() {
        assert_eq!(literal("0f3F800000"), Some(Value::F32(0x3F80_0000)));
        assert_eq!(
            literal("0d3FF0000000000000"),
            Some(Value::F64(1f64.to_bits()))
        );
        assert_eq!(literal("0x3f80U"), Some(Value::Int(0x3f80)));
        assert_eq!(literal("18446744073709551615"), Some(Value::Int(u64::MAX)));
        assert_eq!(literal("017"), Some(Value::Int(15)));
        assert_eq!(literal("0b101"), Some(Value::Int(5)));
        assert_eq!(literal("0"), Some(Value::Int(0)));
        assert_eq!(literal("2.5e1"), Some(Value::F64(25f64.to_bits())));
        for wrong in ["0f3F8", "18446744073709551616", "0xg", "08", "1a"] {
            assert_eq!(literal(wrong), None, "{wrong}");
        }
    }
}
