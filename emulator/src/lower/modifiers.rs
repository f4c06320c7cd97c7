//! The modifiers of an instruction: the code that lowers it takes those that it supports, and the
//! others are an error.

use crate::ir::{FloatMode, Rounding};
use crate::load_error::LoadError;
use crate::lower::Result;
use crate::ptx::ast::{Instruction, Type};

/// Maximum number of dotted parts, more than any instruction has.
const MAX: usize = 16;

/// The parts of `ld.global.nc.f32` after the `ld`.
pub struct Mods<'a> {
    name: &'a str,
    line: u32,
    parts: [&'a str; MAX],
    len: usize,
    /// Mask of the parts that have not been taken: bit i for part i.
    left: u32,
}

impl<'a> Mods<'a> {
    /// Splits a mnemonic into its first part and the modifiers.
    pub fn split(instruction: &Instruction<'a>) -> Result<(&'a str, Mods<'a>)> {
        let (name, line) = (instruction.name, instruction.line);
        let mut dotted = name.split('.');
        let base = dotted.next().unwrap_or(name);
        let mut mods = Mods {
            name,
            line,
            parts: [""; MAX],
            len: 0,
            left: 0,
        };
        for part in dotted {
            if mods.len == MAX {
                return Err(LoadError::new(
                    line,
                    format!("`{name}` has too many modifiers"),
                ));
            }
            mods.parts[mods.len] = part;
            mods.left |= 1 << mods.len;
            mods.len += 1;
        }
        Ok((base, mods))
    }

    /// An error that names the instruction.
    pub fn error<T>(&self, message: &str) -> Result<T> {
        Err(LoadError::new(
            self.line,
            format!("`{}`: {message}", self.name),
        ))
    }

    fn find(&self, wanted: impl Fn(&str) -> bool) -> Option<usize> {
        (0..self.len).find(|&i| self.left >> i & 1 == 1 && wanted(self.parts[i]))
    }

    /// Takes `modifier` if it is present; returns whether it was.
    pub fn take(&mut self, modifier: &str) -> bool {
        let found = self.find(|part| part == modifier);
        if let Some(i) = found {
            self.left &= !(1 << i);
        }
        found.is_some()
    }

    /// Takes the first modifier in `table` and returns its value.
    pub fn take_of<T: Copy>(&mut self, table: &[(&str, T)]) -> Option<T> {
        for i in 0..self.len {
            if self.left >> i & 1 == 1
                && let Some((_, meaning)) = table.iter().find(|(name, _)| *name == self.parts[i])
            {
                self.left &= !(1 << i);
                return Some(*meaning);
            }
        }
        None
    }

    /// As [`Mods::take_of`], an error if there is none.
    pub fn need_of<T: Copy>(&mut self, what: &str, table: &[(&str, T)]) -> Result<T> {
        match self.take_of(table) {
            Some(meaning) => Ok(meaning),
            None => self.error(&format!("{what} is missing or not supported")),
        }
    }

    /// Takes every modifier of `list`: hints without effect here.
    pub fn ignore(&mut self, list: &[&str]) {
        for modifier in list {
            self.take(modifier);
        }
    }

    /// Takes the first type.
    pub fn take_type(&mut self) -> Option<Type> {
        let i = self.find(|part| Type::from_name(part).is_some())?;
        self.left &= !(1 << i);
        Type::from_name(self.parts[i])
    }

    /// Takes the first type; an error if there is none.
    pub fn need_type(&mut self) -> Result<Type> {
        match self.take_type() {
            Some(ty) => Ok(ty),
            None => self.error("a type is missing or not supported"),
        }
    }

    /// Takes `.rn`, `.rz`, `.rm` or `.rp`.
    pub fn take_rounding(&mut self) -> Rounding {
        let table = [
            ("rn", Rounding::Rn),
            ("rz", Rounding::Rz),
            ("rm", Rounding::Rm),
            ("rp", Rounding::Rp),
        ];
        self.take_of(&table).unwrap_or(Rounding::None)
    }

    /// Takes `m<rows>n<columns>k<depth>`: columns and depth.
    pub fn shape(&mut self, rows: u32) -> Result<(u32, u32)> {
        let head = format!("m{rows}n");
        let Some(i) = self.find(|part| part.starts_with(&head)) else {
            return self.error("a shape is missing or not supported");
        };
        let numbers = self.parts[i][head.len()..].split_once('k');
        let parsed = numbers.and_then(|(n, k)| Some((n.parse().ok()?, k.parse().ok()?)));
        self.left &= !(1 << i);
        match parsed {
            // Larger than any valid shape, and small enough to prevent overflow.
            Some((columns, depth)) if (1..=4096).contains(&columns) && depth <= 4096 => {
                Ok((columns, depth))
            }
            _ => self.error("a shape is missing or not supported"),
        }
    }

    /// Takes rounding, `.ftz`, `.sat` and `.relu`.
    pub fn take_float_mode(&mut self) -> FloatMode {
        let rounding = self.take_rounding();
        // `.rn` is the default rounding of arithmetic.
        let rounding = if rounding == Rounding::Rn {
            Rounding::None
        } else {
            rounding
        };
        FloatMode {
            rounding,
            ftz: self.take("ftz"),
            sat: self.take("sat"),
            relu: self.take("relu"),
            finite: false,
        }
    }

    /// Returns an error if a modifier has not been taken.
    pub fn finish(&self) -> Result<()> {
        match self.find(|_| true) {
            Some(i) => self.error(&format!("modifier `.{}` is not supported", self.parts[i])),
            None => Ok(()),
        }
    }
}
