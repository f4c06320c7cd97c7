//! Calls. A device function is inlined at the call: its parameters are aliases of the caller's
//! `.param` variables, which are in local memory, and its `ret` is a branch to the end.

use crate::ir::{AccessType, Address, Op, PredSrc, Reg, Space, Width};
use crate::lower::Result;
use crate::lower::builder::{Builder, width};
use crate::lower::layout::Symbol;
use crate::lower::modifiers::Mods;
use crate::lower::names::Entity;
use crate::ptx::ast::{Function, Instruction, Operand, Statement, Type, Variable};

/// Lowers an instruction of the family; `None` for other mnemonics.
pub(crate) fn lower<'m, 'a>(
    b: &mut Builder<'m, 'a>,
    base: &str,
    i: &'m Instruction<'a>,
    m: &mut Mods<'a>,
) -> Option<Result<()>> {
    Some(match base {
        "call" => b.call(i, m),
        _ => return None,
    })
}

/// Maximum number of instructions in a kernel after inlining.
const MAX_CODE: usize = 1 << 21;
/// Maximum number of calls in a kernel after inlining.
const MAX_CALLS: u32 = 1 << 16;
/// Maximum number of statements that inlining may add to all kernels of a module. A statement takes
/// a few hundred bytes.
pub const MAX_INLINED: u64 = 1 << 22;
/// Maximum depth of nested calls; inlining is recursive.
const MAX_DEPTH: usize = 64;

/// Weight of a statement towards [`MAX_INLINED`].
fn statement_size(statement: &Statement<'_>) -> u64 {
    match statement {
        Statement::Targets(targets, _) => targets.len() as u64 + 1,
        Statement::Registers(registers) => registers.names.len() as u64 + 1,
        _ => 1,
    }
}

impl<'m, 'a> Builder<'m, 'a> {
    /// `call (r), f, (a, b);`
    fn call(&mut self, i: &'m Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        m.take("uni");
        let none: &'m [Operand<'a>] = &[];
        let (returned, rest) = match i.operands.as_slice() {
            [Operand::Group(returned), rest @ ..] => (returned.as_slice(), rest),
            rest => (none, rest),
        };
        let (name, args) = match rest {
            [Operand::Name(name)] => (*name, none),
            [Operand::Name(name), Operand::Group(args)] => (*name, args.as_slice()),
            [Operand::Name(_), ..] => return m.error("indirect calls are not supported"),
            _ => return m.error("the function's name is missing"),
        };
        let Some(Symbol::Function(function)) = self.module.find(name) else {
            if self.names.find(name).is_some() {
                return m.error("indirect calls are not supported");
            }
            return m.error(&format!("there is no function `{name}`"));
        };
        let Some(body) = &function.body else {
            return self.builtin(name, returned, args);
        };
        if self
            .stack
            .iter()
            .any(|caller| std::ptr::eq(*caller, function))
        {
            return m.error(&format!(
                "`{name}` calls itself; recursion is not supported"
            ));
        }
        self.calls += 1;
        let size = body.iter().map(statement_size).sum::<u64>() + 1;
        let inlined = self.module.inlined.get().saturating_add(size);
        self.module.inlined.set(inlined);
        if self.draft.code.len() > MAX_CODE
            || inlined > MAX_INLINED
            || self.calls > MAX_CALLS
            || self.stack.len() > MAX_DEPTH
        {
            return m.error("inlining makes the kernel too long");
        }
        if args.len() != function.params.len() || returned.len() != function.returns.len() {
            return m.error(&format!(
                "the arguments do not fit the declaration of `{name}`"
            ));
        }
        let frame = self.frame;
        let args = self.arguments(args, &function.params, true)?;
        let results = self.arguments(returned, &function.returns, false)?;
        self.inline(function, body, &args, &results)?;
        self.collect(returned, &function.returns, &results)?;
        self.frame = frame;
        Ok(())
    }

    /// The local memory of each argument: the `.param` variable that is passed, or a new allocation
    /// for a value, which is stored there if the argument is an input.
    fn arguments(
        &mut self,
        given: &'m [Operand<'a>],
        declared: &[Variable<'a>],
        store: bool,
    ) -> Result<Vec<u32>> {
        let mut places = Vec::with_capacity(given.len());
        for (operand, variable) in given.iter().zip(declared) {
            if let Operand::Name(name) = *operand
                && let Some(Entity::Local(at)) = self.find(name)?
            {
                places.push(at);
                continue;
            }
            let at = self.take_local(variable.size().unwrap_or(0), variable.alignment())?;
            if store {
                let value = self.source(operand, variable.ty)?;
                self.store_local(at, variable.ty, value);
            }
            places.push(at);
        }
        Ok(places)
    }

    /// Moves results from local memory into their destination registers.
    fn collect(
        &mut self,
        given: &'m [Operand<'a>],
        declared: &[Variable<'a>],
        places: &[u32],
    ) -> Result<()> {
        for ((operand, variable), &at) in given.iter().zip(declared).zip(places) {
            let Operand::Name(name) = *operand else {
                return self.error("a result must be a register or variable");
            };
            if !matches!(self.find(name)?, Some(Entity::Local(_))) {
                let d = self.destination(operand, variable.ty)?;
                self.load_local(at, variable.ty, d);
            }
        }
        Ok(())
    }

    fn inline(
        &mut self,
        function: &'m Function<'a>,
        body: &'m [Statement<'a>],
        args: &[u32],
        results: &[u32],
    ) -> Result<()> {
        let (line, guard) = (self.line, self.guard);
        let end = self.new_label();
        if guard != PredSrc::TRUE {
            self.guard = PredSrc {
                negated: !guard.negated,
                ..guard
            };
            self.emit(Op::Bra {
                target: end,
                reconverge: crate::ir::NO_PC,
            });
            self.guard = PredSrc::TRUE;
        }
        self.names.open(true, self.frame);
        self.stack.push(function);
        self.returns.push(end);
        let params = function
            .params
            .iter()
            .zip(args)
            .chain(function.returns.iter().zip(results));
        for (variable, &at) in params {
            if !self.names.declare(variable.name, Entity::Local(at)) {
                return self.error(format!("`{}` is declared twice", variable.name));
            }
        }
        self.statements(body)?;
        self.place(end);
        self.returns.pop();
        self.stack.pop();
        self.frame = self.names.close();
        (self.line, self.guard) = (line, guard);
        Ok(())
    }

    fn local(ty: Type, at: u32) -> (AccessType, Address) {
        let bytes = ty.bytes() as u8;
        let access = AccessType {
            space: Space::Local,
            bytes,
            count: 1,
            signed: false,
            reg: width(ty),
            strong: false,
        };
        (
            access,
            Address {
                base: Reg::NONE,
                wide: true,
                offset: at.cast_signed(),
            },
        )
    }

    fn store_local(&mut self, at: u32, ty: Type, value: Reg) {
        let (access, addr) = Self::local(ty, at);
        self.emit(Op::St {
            access,
            src: [value, Reg::NONE, Reg::NONE, Reg::NONE],
            addr,
        });
    }

    fn load_local(&mut self, at: u32, ty: Type, d: Reg) {
        let (access, addr) = Self::local(ty, at);
        self.emit(Op::Ld {
            access,
            d: [d, Reg::NONE, Reg::NONE, Reg::NONE],
            addr,
        });
    }

    /// A function that the driver provides: `__assertfail` or `vprintf`.
    fn builtin(
        &mut self,
        name: &str,
        returned: &'m [Operand<'a>],
        args: &'m [Operand<'a>],
    ) -> Result<()> {
        let types: &[Type] = match name {
            "__assertfail" => &[Type::U64, Type::U64, Type::U32, Type::U64, Type::U64],
            "vprintf" => &[Type::U64, Type::U64],
            _ => {
                return self.error(format!(
                    "`{name}` is defined elsewhere; linking is not supported"
                ));
            }
        };
        if args.len() != types.len() {
            return self.error(format!(
                "`{name}` takes {} arguments, not {}",
                types.len(),
                args.len()
            ));
        }
        let mut values = [Reg::NONE; 5];
        for ((operand, &ty), value) in args.iter().zip(types).zip(&mut values) {
            *value = self.argument_value(operand, ty)?;
        }
        if name == "__assertfail" {
            let [message, file, line, function, _] = values;
            self.emit(Op::AssertFail {
                message,
                file,
                line,
                function,
            });
            return Ok(());
        }
        let d = self.new_reg(Width::W32)?;
        self.emit(Op::Printf {
            d,
            format: values[0],
            args: values[1],
        });
        for operand in returned {
            let Operand::Name(name) = *operand else {
                return self.error("a result must be a register or variable");
            };
            match self.find(name)? {
                Some(Entity::Local(at)) => self.store_local(at, Type::U32, d),
                _ => {
                    let to = self.destination(operand, Type::U32)?;
                    self.emit(Op::Mov {
                        w: Width::W32,
                        d: to,
                        a: d,
                    });
                }
            }
        }
        Ok(())
    }

    /// The value of an argument, loaded from its `.param` variable if it is one.
    fn argument_value(&mut self, operand: &Operand<'a>, ty: Type) -> Result<Reg> {
        if let Operand::Name(name) = *operand
            && let Some(Entity::Local(at)) = self.find(name)?
        {
            let d = self.new_reg(width(ty))?;
            self.load_local(at, ty, d);
            return Ok(d);
        }
        self.source(operand, ty)
    }
}
