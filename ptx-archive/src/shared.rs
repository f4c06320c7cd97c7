//! Shared memory that a module declares.

/// Bytes of the module's shared variables, as nvcc writes them: `.shared .align A .b8 name[BYTES];`
/// and `.shared .align A .u32 name;`, each at its alignment. `.extern` ones are the launch's.
pub fn shared_bytes(ptx: &str) -> u32 {
    let mut bytes = 0u32;
    for line in ptx.lines() {
        let Some(variable) = line.trim().strip_prefix(".shared") else {
            continue;
        };
        let align = after(variable, ".align ").unwrap_or(1).max(1);
        let size = after(variable, "[").unwrap_or_else(|| scalar(variable));
        bytes = bytes.next_multiple_of(align) + size;
    }
    bytes
}

/// Bytes of `.align 4 .u32 name;`.
fn scalar(variable: &str) -> u32 {
    const TYPES: [&str; 4] = [".b", ".f", ".s", ".u"];
    let bits = TYPES.iter().find_map(|prefix| after(variable, prefix));
    bits.unwrap_or(0) / 8
}

/// The number that follows `mark`.
fn after(text: &str, mark: &str) -> Option<u32> {
    let rest = &text[text.find(mark)? + mark.len()..];
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_variables_are_summed() {
        let ptx = "// .shared in a comment counts for nothing\n.version 7.0\n\
            \t.shared .align 16 .b8 _ZZ6kernelE1a[4224];\n\
            .shared .align 4 .b8 b[10];\n.shared .align 8 .b8 c[8];\n";
        assert_eq!(shared_bytes(ptx), 4224 + 10 + 6 + 8);
        let scalars = "\t.shared .align 1 .u8 flag;\n\t.shared .align 8 .f64 sum;\n\
            .extern .shared .align 16 .b8 rest[];\n";
        assert_eq!(shared_bytes(scalars), 1 + 7 + 8);
    }
}
