//! The syntax tree of a PTX module. Names are borrowed from the text; the semantics of instructions
//! is defined in [`crate::lower`].

use std::fmt;

/// The type of a register, variable or operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // Each is PTX's type of the same name.
pub enum Type {
    Pred,
    B8,
    B16,
    B32,
    B64,
    B128,
    U8,
    U16,
    U32,
    U64,
    S8,
    S16,
    S32,
    S64,
    F16,
    F16x2,
    Bf16,
    Bf16x2,
    F32,
    F64,
}

impl Type {
    /// The type with a PTX name, without its dot.
    pub fn from_name(name: &str) -> Option<Type> {
        Some(match name {
            "pred" => Type::Pred,
            "b8" => Type::B8,
            "b16" => Type::B16,
            "b32" => Type::B32,
            "b64" => Type::B64,
            "b128" => Type::B128,
            "u8" => Type::U8,
            "u16" => Type::U16,
            "u32" => Type::U32,
            "u64" => Type::U64,
            "s8" => Type::S8,
            "s16" => Type::S16,
            "s32" => Type::S32,
            "s64" => Type::S64,
            "f16" => Type::F16,
            "f16x2" => Type::F16x2,
            "bf16" => Type::Bf16,
            "bf16x2" => Type::Bf16x2,
            "f32" => Type::F32,
            "f64" => Type::F64,
            _ => return None,
        })
    }

    /// Its PTX name, without the dot.
    pub const fn name(self) -> &'static str {
        match self {
            Type::Pred => "pred",
            Type::B8 => "b8",
            Type::B16 => "b16",
            Type::B32 => "b32",
            Type::B64 => "b64",
            Type::B128 => "b128",
            Type::U8 => "u8",
            Type::U16 => "u16",
            Type::U32 => "u32",
            Type::U64 => "u64",
            Type::S8 => "s8",
            Type::S16 => "s16",
            Type::S32 => "s32",
            Type::S64 => "s64",
            Type::F16 => "f16",
            Type::F16x2 => "f16x2",
            Type::Bf16 => "bf16",
            Type::Bf16x2 => "bf16x2",
            Type::F32 => "f32",
            Type::F64 => "f64",
        }
    }

    /// Its size in bits; a predicate has 1.
    pub const fn bits(self) -> u32 {
        match self {
            Type::Pred => 1,
            Type::B8 | Type::U8 | Type::S8 => 8,
            Type::B16 | Type::U16 | Type::S16 | Type::F16 | Type::Bf16 => 16,
            Type::B32 | Type::U32 | Type::S32 | Type::F32 | Type::F16x2 | Type::Bf16x2 => 32,
            Type::B64 | Type::U64 | Type::S64 | Type::F64 => 64,
            Type::B128 => 128,
        }
    }

    /// Its size in memory, in bytes.
    pub const fn bytes(self) -> u32 {
        self.bits().div_ceil(8)
    }

    /// Returns whether it is one of the floating-point types, packed pairs included.
    pub const fn is_float(self) -> bool {
        matches!(
            self,
            Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2 | Type::F32 | Type::F64
        )
    }

    /// Returns whether it is a signed integer.
    pub const fn is_signed(self) -> bool {
        matches!(self, Type::S8 | Type::S16 | Type::S32 | Type::S64)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ".{}", self.name())
    }
}

/// A state space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // Each is PTX's space of the same name.
pub enum Space {
    Const,
    Global,
    Local,
    Param,
    Shared,
}

/// Linkage of a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Each is PTX's directive of the same name.
pub enum Linkage {
    Module,
    Extern,
    Visible,
    Weak,
    Common,
}

/// A value of a constant or of an initialiser.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// An integer, as 64 bits in two's complement.
    Int(u64),
    /// A `0f` literal: the bits of a binary32.
    F32(u32),
    /// A `0d` or decimal literal: the bits of a binary64.
    F64(u64),
    /// The address of a symbol in its own space (or a generic one if `generic`), plus a number of
    /// bytes.
    Address {
        /// Name of the symbol.
        name: &'a str,
        /// Offset in bytes.
        offset: i64,
        /// True if written as `generic(name)`.
        generic: bool,
    },
    /// A number of zero elements, where an inner list of an initialiser is short.
    Zeros(u64),
}

/// A declaration of a variable or parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable<'a> {
    /// The line of its name.
    pub line: u32,
    /// Its name; empty for an unnamed parameter of a prototype.
    pub name: &'a str,
    /// State space of the variable.
    pub space: Space,
    /// Linkage of the symbol.
    pub linkage: Linkage,
    /// The alignment in the declaration, in bytes.
    pub align: Option<u32>,
    /// The type of an element.
    pub ty: Type,
    /// Lanes of an element: 1, 2 (`.v2`) or 4.
    pub vector: u32,
    /// Array dimensions, outermost first; 0 stands for `[]`.
    pub dims: Vec<u64>,
    /// The values, nested lists flattened with [`Value::Zeros`] in their gaps, or nothing.
    pub init: Option<Vec<Value<'a>>>,
}

impl Variable<'_> {
    /// Its size in bytes, or `None` if that exceeds 2^40. An unsized array has size 0.
    pub fn size(&self) -> Option<u64> {
        let mut size = u64::from(self.ty.bytes() * self.vector);
        for &dim in &self.dims {
            size = size.checked_mul(dim)?;
        }
        (size <= 1 << 40).then_some(size)
    }

    /// Its alignment in bytes: that of the declaration or the element's.
    pub fn alignment(&self) -> u32 {
        self.align.unwrap_or(0).max(self.ty.bytes() * self.vector)
    }
}

/// `.reg .b32 a, %r<20>;`
#[derive(Clone, Debug, PartialEq)]
pub struct Registers<'a> {
    /// The line of the declaration.
    pub line: u32,
    /// Type of the registers.
    pub ty: Type,
    /// Each name, and the count of `name<count>`.
    pub names: Vec<(&'a str, Option<u32>)>,
}

/// `@p` or `@!p`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard<'a> {
    /// The predicate register.
    pub name: &'a str,
    /// True if the instruction executes where the predicate is false.
    pub negated: bool,
}

/// Base of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base<'a> {
    /// A register or a symbol.
    Name(&'a str),
    /// No base: the offset is the address.
    None,
}

/// An operand of an instruction.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand<'a> {
    /// A register, special register, symbol or label.
    Name(&'a str),
    /// `!p`
    Not(&'a str),
    /// `p|q` of a double destination.
    Pair(&'a str, &'a str),
    /// A literal, or a symbol with an offset.
    Value(Value<'a>),
    /// `[base+offset]`
    Address(Base<'a>, i64),
    /// `[base+offset, {a, b}]`: a tensor map with coordinates.
    Tensor(Base<'a>, i64, Vec<Operand<'a>>),
    /// `{a, b}`
    Vector(Vec<Operand<'a>>),
    /// `(a, b)` of a call.
    Group(Vec<Operand<'a>>),
}

/// An instruction with its guard and operands.
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction<'a> {
    /// The line of its first token.
    pub line: u32,
    /// The guard, if there is one.
    pub guard: Option<Guard<'a>>,
    /// The mnemonic with all its modifiers.
    pub name: &'a str,
    /// The operands, in order.
    pub operands: Vec<Operand<'a>>,
}

/// A statement of a function's body; scopes are given by their braces.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement<'a> {
    /// `{`
    Open,
    /// `}`
    Close,
    /// `name:`
    Label(&'a str, u32),
    /// `.reg`
    Registers(Registers<'a>),
    /// A variable of the function: `.shared`, `.local`, `.param` of a call.
    Variable(Variable<'a>),
    /// `.branchtargets`, named by the label before it.
    Targets(Vec<&'a str>, u32),
    /// An instruction.
    Instruction(Instruction<'a>),
}

/// An entry or function.
#[derive(Clone, Debug, PartialEq)]
pub struct Function<'a> {
    /// The line of its name.
    pub line: u32,
    /// Name of the function.
    pub name: &'a str,
    /// True if it is a kernel.
    pub entry: bool,
    /// Linkage of the symbol.
    pub linkage: Linkage,
    /// Returned parameters (none for an entry).
    pub returns: Vec<Variable<'a>>,
    /// Parameters, in order.
    pub params: Vec<Variable<'a>>,
    /// `.maxntid`
    pub max_threads: Option<[u32; 3]>,
    /// `.reqntid`
    pub required_threads: Option<[u32; 3]>,
    /// `.maxnreg`
    pub max_registers: Option<u32>,
    /// `.minnctapersm`
    pub min_blocks: Option<u32>,
    /// `.reqnctapercluster`
    pub required_cluster: Option<[u32; 3]>,
    /// `.explicitcluster`
    pub explicit_cluster: bool,
    /// `.maxclusterrank`
    pub max_cluster: Option<u32>,
    /// The body, or `None` for a prototype.
    pub body: Option<Vec<Statement<'a>>>,
}

/// The syntax tree of a module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Module<'a> {
    /// `.version`, as (major, minor).
    pub version: (u32, u32),
    /// `.target`: the architecture, such as `sm_80`.
    pub target: &'a str,
    /// Variables of the module.
    pub variables: Vec<Variable<'a>>,
    /// Entries and functions, prototypes included.
    pub functions: Vec<Function<'a>>,
}
