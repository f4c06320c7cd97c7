//! Declarations of a module: its functions, and its variables in device memory with their initial
//! values.

use std::cell::Cell;

use crate::ir::{Global, Relocation};
use crate::load_error::LoadError;
use crate::lower::Result;
use crate::lower::names::NameMap;
use crate::ptx::ast;
use crate::ptx::ast::{Linkage, Space, Type, Value, Variable};

/// Maximum length in bytes of a variable's initial value up to its last nonzero byte, which is kept
/// in host memory.
const MAX_INIT: u64 = 1 << 28;

/// Meaning of a name at module level.
#[derive(Clone, Copy, Debug)]
pub enum Symbol<'m, 'a> {
    /// A variable in device memory, by its index in the program.
    Global(u32),
    /// A variable that another module defines.
    ExternGlobal,
    /// A shared variable; an `extern` one is dynamic.
    Shared(&'m Variable<'a>),
    /// A function or entry.
    Function(&'m ast::Function<'a>),
}

/// The names of a module.
pub struct Module<'m, 'a> {
    symbols: NameMap<&'a str, Symbol<'m, 'a>>,
    /// `.target` as a number, such as 80.
    pub target: u32,
    /// `.target` as text, such as `sm_90a`.
    pub architecture: &'a str,
    /// `.version`, as (major, minor).
    pub version: (u32, u32),
    /// Number of statements inlined so far, in all kernels.
    pub inlined: Cell<u64>,
}

impl<'m, 'a> Module<'m, 'a> {
    /// Collects the names of `ast` and computes the layout of its variables.
    ///
    /// # Errors
    /// A name is declared twice, or an initialiser does not fit.
    pub fn new(ast: &'m ast::Module<'a>, target: u32) -> Result<(Module<'m, 'a>, Vec<Global>)> {
        let mut module = Module {
            symbols: NameMap::default(),
            target,
            architecture: ast.target,
            version: ast.version,
            inlined: Cell::new(0),
        };
        let mut defined = Vec::new();
        for variable in &ast.variables {
            let symbol = match (variable.space, variable.linkage) {
                (Space::Shared, _) => Symbol::Shared(variable),
                (_, Linkage::Extern) => Symbol::ExternGlobal,
                _ => {
                    defined.push(variable);
                    Symbol::Global(defined.len() as u32 - 1)
                }
            };
            module.declare(variable.name, symbol, variable.line)?;
        }
        for function in &ast.functions {
            module.declare(function.name, Symbol::Function(function), function.line)?;
        }
        let globals = defined
            .into_iter()
            .map(|variable| module.global(variable))
            .collect::<Result<_>>()?;
        Ok((module, globals))
    }

    /// Symbol of `name`.
    pub fn find(&self, name: &str) -> Option<Symbol<'m, 'a>> {
        self.symbols.get(name).copied()
    }

    fn declare(&mut self, name: &'a str, symbol: Symbol<'m, 'a>, line: u32) -> Result<()> {
        let Some(old) = self.symbols.get(name).copied() else {
            self.symbols.insert(name, symbol);
            return Ok(());
        };
        match (old, symbol) {
            // A prototype and its definition, in either order.
            (Symbol::Function(old), Symbol::Function(new))
                if old.body.is_none() || new.body.is_none() =>
            {
                if new.body.is_some() {
                    self.symbols.insert(name, symbol);
                }
                Ok(())
            }
            (Symbol::ExternGlobal, Symbol::Global(_)) => {
                self.symbols.insert(name, symbol);
                Ok(())
            }
            (Symbol::Global(_) | Symbol::ExternGlobal, Symbol::ExternGlobal) => Ok(()),
            _ => Err(LoadError::new(line, format!("`{name}` is declared twice"))),
        }
    }

    fn global(&self, variable: &Variable<'a>) -> Result<Global> {
        let size = variable.size().unwrap_or(0);
        let mut global = Global {
            name: variable.name.to_owned(),
            constant: variable.space == Space::Const,
            align: variable.alignment(),
            size,
            init: Vec::new(),
            relocations: Vec::new(),
        };
        for &value in variable.init.iter().flatten() {
            self.initial_value(variable, value, &mut global)?;
        }
        if global.init.len() as u64 > size {
            return Err(LoadError::new(
                variable.line,
                format!("`{}` has more values than elements", variable.name),
            ));
        }
        Ok(global)
    }

    fn initial_value(
        &self,
        variable: &Variable<'a>,
        value: Value<'a>,
        global: &mut Global,
    ) -> Result<()> {
        let fail = |message: String| Err(LoadError::new(variable.line, message));
        let bytes = variable.ty.bytes() as usize;
        let count = if let Value::Zeros(count) = value {
            count
        } else {
            1
        };
        let end = count
            .checked_mul(bytes as u64)
            .and_then(|more| more.checked_add(global.init.len() as u64));
        let Some(end) = end.filter(|&end| end <= MAX_INIT) else {
            return fail(format!(
                "the initialiser of `{}` goes beyond its first {MAX_INIT} bytes, which is not \
                supported",
                variable.name
            ));
        };
        if let Value::Zeros(_) = value {
            global.init.resize(end as usize, 0);
            return Ok(());
        }
        let bits = match (value, variable.ty) {
            (Value::Int(bits), Type::F32) => u64::from((bits.cast_signed() as f32).to_bits()),
            (Value::Int(bits), Type::F64) => (bits.cast_signed() as f64).to_bits(),
            (Value::Int(bits), _) => bits,
            (Value::F32(bits), Type::F64) => f64::from(f32::from_bits(bits)).to_bits(),
            (Value::F32(bits), _) => u64::from(bits),
            (Value::F64(bits), Type::F32) => u64::from((f64::from_bits(bits) as f32).to_bits()),
            (Value::F64(bits), _) => bits,
            (Value::Zeros(_), _) => 0,
            (Value::Address { name, offset, .. }, _) => {
                let Some(Symbol::Global(symbol)) = self.find(name) else {
                    return fail(format!(
                        "the initialiser names `{name}`, which is no variable in device memory"
                    ));
                };
                if bytes != 8 {
                    return fail(format!("the address of `{name}` needs a 64-bit element"));
                }
                global.relocations.push(Relocation {
                    offset: global.init.len() as u64,
                    symbol,
                    addend: offset,
                });
                0
            }
        };
        if bytes > 8 {
            return fail(format!(
                "initialisers of type {} are not supported",
                variable.ty
            ));
        }
        global.init.extend_from_slice(&bits.to_le_bytes()[..bytes]);
        Ok(())
    }
}
