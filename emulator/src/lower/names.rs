//! Names of the function being lowered: scopes, registers, labels and variables.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::ir::{Pred, Reg};
use crate::ptx::ast::Type;

/// FxHash: names are short and there are tens of thousands of them, so a fast hash pays off.
#[derive(Default)]
pub struct NameHasher(u64);

impl Hasher for NameHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}

/// A map with that hash.
pub type NameMap<K, V> = HashMap<K, V, BuildHasherDefault<NameHasher>>;

/// Meaning of a name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Entity {
    /// A register.
    Reg(Reg, Type),
    /// A predicate register.
    Pred(Pred),
    /// A label, by its index.
    Label(u32),
    /// A branch table, by its index.
    Table(u16),
    /// A `.local` variable, or a `.param` one of a call or device function, which is in local
    /// memory too: its offset in the thread's frame.
    Local(u32),
    /// A kernel's parameter: its offset in the buffer.
    KernelParam(u32),
    /// Static shared memory: its offset.
    Shared(u32),
    /// Dynamic shared memory.
    DynamicShared,
    /// A variable in device memory, by its index.
    Global(u32),
}

/// `%r<20>`: registers that are created at their first use.
#[derive(Clone, Copy, Debug)]
struct Range {
    ty: Type,
    count: u32,
    /// Index among all ranges.
    index: u32,
}

/// A scope in braces.
#[derive(Default, Debug)]
struct Scope<'a> {
    names: NameMap<&'a str, Entity>,
    ranges: NameMap<&'a str, Range>,
    /// Bytes of local memory in use when the scope was opened.
    frame: u32,
    /// True for a function's outermost scope, which hides the caller's names.
    function: bool,
}

/// The result of a lookup.
pub enum Found {
    /// A declared entity.
    Entity(Entity),
    /// An element of a range without a register: the caller creates a register of the type and
    /// calls [`Names::fill`] with the slot.
    Fresh(Type, Slot),
}

/// An element of a range: the range's index, and the element's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(u32, u32);

/// The stack of scopes.
#[derive(Default, Debug)]
pub struct Names<'a> {
    scopes: Vec<Scope<'a>>,
    /// Number of ranges declared so far.
    ranges: u32,
    /// The elements with registers. Memory depends on the elements in use, not on the size of a
    /// range.
    named: NameMap<Slot, Entity>,
}

impl<'a> Names<'a> {
    /// Opens a scope; `frame` is stored, and [`Names::close`] returns it.
    pub fn open(&mut self, function: bool, frame: u32) {
        self.scopes.push(Scope {
            frame,
            function,
            ..Scope::default()
        });
    }

    /// Closes the innermost scope.
    pub fn close(&mut self) -> u32 {
        self.scopes.pop().map_or(0, |scope| scope.frame)
    }

    /// Declares a name in the innermost scope; returns false if it exists there.
    pub fn declare(&mut self, name: &'a str, entity: Entity) -> bool {
        match self.scopes.last_mut() {
            Some(scope) => scope.names.insert(name, entity).is_none(),
            None => false,
        }
    }

    /// Declares `prefix<count>`; returns false if it exists.
    pub fn declare_range(&mut self, prefix: &'a str, count: u32, ty: Type) -> bool {
        // One per declaration, of which there are fewer than statements.
        self.ranges = self.ranges.wrapping_add(1);
        let index = self.ranges;
        match self.scopes.last_mut() {
            Some(scope) => scope
                .ranges
                .insert(prefix, Range { ty, count, index })
                .is_none(),
            None => false,
        }
    }

    /// Looks a name up, innermost scope first.
    pub fn find(&self, name: &str) -> Option<Found> {
        let numbered = split_number(name);
        for scope in self.scopes.iter().rev() {
            if !scope.names.is_empty()
                && let Some(&entity) = scope.names.get(name)
            {
                return Some(Found::Entity(entity));
            }
            if let (Some((prefix, number)), false) = (numbered, scope.ranges.is_empty())
                && let Some(range) = scope.ranges.get(prefix)
                && number < range.count
            {
                let slot = Slot(range.index, number);
                return Some(match self.named.get(&slot) {
                    Some(&entity) => Found::Entity(entity),
                    None => Found::Fresh(range.ty, slot),
                });
            }
            if scope.function {
                return None;
            }
        }
        None
    }

    /// Sets the register of a range's element.
    pub fn fill(&mut self, slot: Slot, entity: Entity) {
        self.named.insert(slot, entity);
    }
}

/// Splits `%r12` into `%r` and 12. A number with leading zeros is no element of a range.
fn split_number(name: &str) -> Option<(&str, u32)> {
    let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
    let (prefix, number) = name.split_at(name.len() - digits);
    if digits == 0 || (digits > 1 && number.starts_with('0')) {
        return None;
    }
    Some((prefix, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_names_hide_outer_ones_and_callers_are_out_of_sight() {
        let mut names = Names::default();
        names.open(true, 0);
        assert!(names.declare_range("%r", 4, Type::B32));
        assert!(names.declare("x", Entity::Label(1)));
        assert!(!names.declare("x", Entity::Label(2)));
        names.open(false, 8);
        names.declare("%r1", Entity::Label(7));
        assert!(matches!(
            names.find("%r1"),
            Some(Found::Entity(Entity::Label(7)))
        ));
        let Some(Found::Fresh(Type::B32, slot)) = names.find("%r3") else {
            panic!("%r3 is an element that nothing has named");
        };
        assert!(names.find("%r4").is_none());
        assert!(names.find("%r03").is_none());
        names.fill(slot, Entity::Reg(Reg(9), Type::B32));
        names.open(true, 16);
        assert!(names.find("x").is_none() && names.find("%r3").is_none());
        assert_eq!((names.close(), names.close()), (16, 8));
        assert!(matches!(
            names.find("%r3"),
            Some(Found::Entity(Entity::Reg(Reg(9), _)))
        ));
    }
}
