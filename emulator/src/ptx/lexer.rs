//! Lexer: PTX text to tokens.
//!
//! Tokens borrow from the text. A mnemonic with its modifiers (`ld.global.nc.v4.f32`) and a special
//! register with its component (`%tid.x`) are one token each: PTX permits no blank inside them, and
//! later stages split them once the instruction is known.

use crate::load_error::LoadError;

/// Kind of a token. The text of names, directives and numbers is borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// An identifier, with its dotted modifiers: `%r1`, `add.s32`, `$L__BB0_1`, `%tid.x`, `_`.
    Name(&'a str),
    /// A directive or type with its dot: `.reg`, `.b32`.
    Directive(&'a str),
    /// A number as written, without a sign: `12`, `0x3f80U`, `0f3F800000`, `1.5`.
    Number(&'a str),
    /// The inside of a string literal.
    Text(&'a str),
    /// A punctuation character.
    Mark(u8),
    /// The end of the text.
    End,
}

impl std::fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Token::Name(text) | Token::Directive(text) | Token::Number(text) => {
                write!(f, "`{text}`")
            }
            Token::Text(text) => write!(f, "\"{text}\""),
            Token::Mark(mark) => write!(f, "`{}`", char::from(*mark)),
            Token::End => write!(f, "the end of the text"),
        }
    }
}

/// A pull lexer over one PTX text.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: u32,
}

const fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'$' | b'%')
}

const fn is_name_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'%')
}

impl<'a> Lexer<'a> {
    /// A lexer at the start of `text`.
    pub fn new(text: &'a str) -> Lexer<'a> {
        Lexer {
            text,
            at: 0,
            line: 1,
        }
    }

    /// The line at which the search for the next token starts; after [`Lexer::next_token`], the
    /// line of that token (or of its end, if it spans several).
    pub fn line(&self) -> u32 {
        self.line
    }

    fn byte(&self, ahead: usize) -> u8 {
        self.text
            .as_bytes()
            .get(self.at + ahead)
            .copied()
            .unwrap_or(0)
    }

    /// Skips the rest of the line, for directives such as `.loc` and `.file`, which end with their
    /// line.
    pub fn skip_line(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest
            .iter()
            .position(|&byte| byte == b'\n')
            .unwrap_or(rest.len());
    }

    /// The next token.
    ///
    /// # Errors
    /// A character that starts no token, an unterminated comment or string.
    pub fn next_token(&mut self) -> Result<Token<'a>, LoadError> {
        self.skip_blank()?;
        let start = self.at;
        let first = self.byte(0);
        if start >= self.text.len() {
            return Ok(Token::End);
        }
        if is_name_start(first) {
            self.take_name();
            return Ok(Token::Name(&self.text[start..self.at]));
        }
        if first.is_ascii_digit() {
            self.take_number();
            return Ok(Token::Number(&self.text[start..self.at]));
        }
        if first == b'.' && is_name_start(self.byte(1)) {
            self.at += 1;
            self.take_word();
            return Ok(Token::Directive(&self.text[start..self.at]));
        }
        if first == b'"' {
            return self.take_string();
        }
        if b"{}()[]<>,;:@!|+-=*/&^~?".contains(&first) {
            self.at += 1;
            return Ok(Token::Mark(first));
        }
        let shown = self.text[start..].chars().next().unwrap_or(' ');
        Err(LoadError::new(
            self.line,
            format!("unexpected character {shown:?}"),
        ))
    }

    fn skip_blank(&mut self) -> Result<(), LoadError> {
        loop {
            match self.byte(0) {
                b'\n' => {
                    self.line += 1;
                    self.at += 1;
                }
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'/' if self.byte(1) == b'/' => self.skip_line(),
                b'/' if self.byte(1) == b'*' => self.skip_block_comment()?,
                // cuModuleLoadData takes C strings: the text ends at a NUL.
                0 if self.at < self.text.len() => self.at = self.text.len(),
                _ => return Ok(()),
            }
        }
    }

    fn skip_block_comment(&mut self) -> Result<(), LoadError> {
        let rest = &self.text[self.at..];
        let Some(length) = rest[2..].find("*/") else {
            return Err(LoadError::new(self.line, "comment without an end"));
        };
        self.line += newlines(&rest[..length + 4]);
        self.at += length + 4;
        Ok(())
    }

    /// Letters, digits, and other characters of C identifiers.
    fn take_word(&mut self) {
        while is_name_part(self.byte(0)) || (self.byte(0) == b':' && self.byte(1) == b':') {
            self.at += if self.byte(0) == b':' { 2 } else { 1 };
        }
    }

    /// A word and its dotted parts.
    fn take_name(&mut self) {
        self.take_word();
        while self.byte(0) == b'.' && is_name_part(self.byte(1)) {
            self.at += 1;
            self.take_word();
        }
    }

    fn take_number(&mut self) {
        let hexadecimal =
            self.byte(0) == b'0' && matches!(self.byte(1), b'x' | b'X' | b'f' | b'F' | b'd' | b'D');
        while self.byte(0).is_ascii_alphanumeric() {
            self.take_digit(hexadecimal);
        }
        if !hexadecimal && self.byte(0) == b'.' && !is_name_start(self.byte(1)) {
            self.at += 1;
            while self.byte(0).is_ascii_alphanumeric() {
                self.take_digit(false);
            }
        }
    }

    /// One character of a number; the exponent of a decimal includes its sign.
    fn take_digit(&mut self, hexadecimal: bool) {
        let exponent = !hexadecimal && matches!(self.byte(0), b'e' | b'E');
        self.at += 1;
        if exponent && matches!(self.byte(0), b'+' | b'-') && self.byte(1).is_ascii_digit() {
            self.at += 1;
        }
    }

    fn take_string(&mut self) -> Result<Token<'a>, LoadError> {
        let start = self.at + 1;
        let Some(length) = self.text[start..].find('"') else {
            return Err(LoadError::new(self.line, "string without an end"));
        };
        let inside = &self.text[start..start + length];
        self.line += newlines(inside);
        self.at = start + length + 1;
        Ok(Token::Text(inside))
    }
}

fn newlines(text: &str) -> u32 {
    text.bytes().map(|byte| u32::from(byte == b'\n')).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<Token<'_>> {
        let mut lexer = Lexer::new(text);
        let mut tokens = Vec::new();
        loop {
            match lexer.next_token().unwrap() {
                Token::End => return tokens,
                token => tokens.push(token),
            }
        }
    }

    #[test]
    fn an_instruction() {
        use Token::{Mark, Name, Number};
        assert_eq!(
            all("@!%p1 ld.global.L1::no_allocate.v2.f32 {%f1,_}, [%rd1+-16]; // end"),
            [
                Mark(b'@'),
                Mark(b'!'),
                Name("%p1"),
                Name("ld.global.L1::no_allocate.v2.f32"),
                Mark(b'{'),
                Name("%f1"),
                Mark(b','),
                Name("_"),
                Mark(b'}'),
                Mark(b','),
                Mark(b'['),
                Name("%rd1"),
                Mark(b'+'),
                Mark(b'-'),
                Number("16"),
                Mark(b']'),
                Mark(b';'),
            ]
        );
    }

    #[test]
    fn labels_numbers_and_directives() {
        use Token::{Directive, Mark, Name, Number};
        assert_eq!(all("$L_1:\n\tbra.uni x;")[..2], [Name("$L_1"), Mark(b':')]);
        assert_eq!(
            all("0x3f80U 0f3F800000 0d3FE0 1.5e-3 9.0 07"),
            [
                Number("0x3f80U"),
                Number("0f3F800000"),
                Number("0d3FE0"),
                Number("1.5e-3"),
                Number("9.0"),
                Number("07")
            ]
        );
        assert_eq!(
            all(".reg .b32 %r<5>; %tid.x"),
            [
                Directive(".reg"),
                Directive(".b32"),
                Name("%r"),
                Mark(b'<'),
                Number("5"),
                Mark(b'>'),
                Mark(b';'),
                Name("%tid.x")
            ]
        );
    }

    #[test]
    fn lines_are_counted_through_comments() {
        let mut lexer = Lexer::new("/* a\nb */ // c\n\n x \"\n\" y \u{0} z");
        assert_eq!(lexer.next_token(), Ok(Token::Name("x")));
        assert_eq!(lexer.line(), 4);
        assert_eq!(lexer.next_token(), Ok(Token::Text("\n")));
        assert_eq!(lexer.next_token(), Ok(Token::Name("y")));
        assert_eq!(lexer.line(), 5);
        assert_eq!(lexer.next_token(), Ok(Token::End));
    }

    #[test]
    fn what_begins_no_token_is_refused() {
        assert_eq!(Lexer::new("\n \u{e9}").next_token().unwrap_err().line, 2);
        assert!(
            Lexer::new("/* x")
                .next_token()
                .unwrap_err()
                .message
                .contains("comment")
        );
        assert!(
            Lexer::new("\"x")
                .next_token()
                .unwrap_err()
                .message
                .contains("string")
        );
    }
}
