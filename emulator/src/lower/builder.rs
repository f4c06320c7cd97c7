//! The state of one kernel's lowering.

use crate::ir::{
    ConstantValue, Inst, Kernel, NO_PC, Op, Param, Pc, Pred, PredSrc, Reg, SharedVar, Width,
};
use crate::load_error::LoadError;
use crate::lower::Result;
use crate::lower::draft::{Draft, Kind, Virtual};
use crate::lower::layout::{Module, Symbol};
use crate::lower::modifiers::Mods;
use crate::lower::names::{Entity, Found, NameMap, Names};
use crate::lower::passes::allocate;
use crate::ptx::ast::{Function, Instruction, Operand, Statement, Type, Variable};

/// Maximum of local memory per thread: that of every compute capability.
const MAX_LOCAL: u64 = 512 << 10;

/// The lowering of one kernel.
pub struct Builder<'m, 'a> {
    pub(crate) module: &'m Module<'m, 'a>,
    pub(crate) names: Names<'a>,
    pub(crate) draft: Draft,
    pub(crate) kernel: Kernel,
    /// The line of the current instruction.
    pub(crate) line: u32,
    pub(crate) guard: PredSrc,
    /// Bytes of local memory in use at this point.
    pub(crate) frame: u32,
    /// The functions that are being inlined, the kernel first.
    pub(crate) stack: Vec<&'m Function<'a>>,
    /// Number of calls inlined so far.
    pub(crate) calls: u32,
    /// Labels to which the functions being inlined return.
    pub(crate) returns: Vec<u32>,
    rows: NameMap<(Kind, Width), Reg>,
    shared: NameMap<usize, u32>,
}

/// Lowers an entry.
pub fn lower_kernel<'m, 'a>(
    module: &'m Module<'m, 'a>,
    function: &'m Function<'a>,
    body: &'m [Statement<'a>],
) -> Result<Kernel> {
    let mut builder = Builder {
        module,
        names: Names::default(),
        draft: Draft {
            preds: 1,
            ..Draft::default()
        },
        kernel: Kernel {
            name: function.name.to_owned(),
            dynamic_shared_align: 1,
            ..Kernel::default()
        },
        line: function.line,
        guard: PredSrc::TRUE,
        frame: 0,
        stack: vec![function],
        calls: 0,
        returns: Vec::new(),
        rows: NameMap::default(),
        shared: NameMap::default(),
    };
    builder.names.open(true, 0);
    builder.parameters(&function.params)?;
    builder.kernel.max_threads = function.max_threads.map(product);
    builder.kernel.required_block = function.required_threads;
    builder.clusters(function)?;
    builder.kernel.max_registers = function.max_registers;
    builder.kernel.min_blocks = function.min_blocks;
    builder.statements(body)?;
    builder.line = body.iter().rev().find_map(line_of).unwrap_or(function.line);
    builder.emit(Op::Exit);
    builder.finish()
}

fn product(sizes: [u32; 3]) -> u32 {
    sizes
        .iter()
        .fold(1, |product: u32, &size| product.saturating_mul(size))
}

fn line_of(statement: &Statement<'_>) -> Option<u32> {
    match statement {
        Statement::Instruction(instruction) => Some(instruction.line),
        _ => None,
    }
}

/// The width of a register of a type.
pub fn width(ty: Type) -> Width {
    match ty.bits() {
        64 => Width::W64,
        32 => Width::W32,
        _ => Width::W16,
    }
}

impl<'m, 'a> Builder<'m, 'a> {
    /// An error at the current instruction.
    pub(crate) fn error<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(LoadError::new(self.line, message))
    }

    /// Appends an instruction with the current guard.
    pub(crate) fn emit(&mut self, op: Op) {
        self.draft.code.push(Inst {
            op,
            guard: self.guard,
        });
        self.draft.lines.push(self.line);
    }

    /// A register list for the next operation, after which [`Self::emit_list`] must be called.
    pub(crate) fn new_list(&mut self) -> Result<u16> {
        if self.draft.lists == u16::MAX {
            return self.error("the kernel has more than 65535 operations of this kind");
        }
        self.draft.lists += 1;
        Ok(self.draft.lists - 1)
    }

    /// Appends registers that are read, or read and written, to a list.
    pub(crate) fn emit_list(&mut self, list: u16, update: bool, regs: &[Reg]) {
        for chunk in regs.chunks(8) {
            let mut regs = [Reg::NONE; 8];
            regs[..chunk.len()].copy_from_slice(chunk);
            self.emit(Op::Extra { list, update, regs });
        }
    }

    /// A new virtual register.
    pub(crate) fn new_reg(&mut self, width: Width) -> Result<Reg> {
        self.new_virtual(Virtual {
            width,
            kind: Kind::Variable,
        })
    }

    fn new_virtual(&mut self, new: Virtual) -> Result<Reg> {
        let index = self.draft.regs.len();
        if index >= usize::from(u16::MAX) {
            return self.error("the kernel uses more than 65534 registers");
        }
        self.draft.regs.push(new);
        Ok(Reg(index as u16))
    }

    /// A new virtual predicate.
    pub(crate) fn new_pred(&mut self) -> Result<Pred> {
        let index = self.draft.preds;
        if index >= u32::from(u16::MAX) {
            return self.error("the kernel uses more than 65534 predicates");
        }
        self.draft.preds += 1;
        Ok(Pred(index as u16))
    }

    /// A new label without a position.
    pub(crate) fn new_label(&mut self) -> u32 {
        self.draft.labels.push(NO_PC);
        self.draft.labels.len() as u32 - 1
    }

    /// Sets the position of a label to the next instruction.
    pub(crate) fn place(&mut self, label: u32) {
        self.draft.labels[label as usize] = self.draft.code.len() as Pc;
    }

    /// The register of a row that is filled before the kernel starts.
    pub(crate) fn filled(&mut self, kind: Kind, width: Width) -> Result<Reg> {
        let key = (kind, width);
        if let Some(&reg) = self.rows.get(&key) {
            return Ok(reg);
        }
        let reg = self.new_virtual(Virtual { width, kind })?;
        self.rows.insert(key, reg);
        Ok(reg)
    }

    /// A constant of a width.
    pub(crate) fn constant(&mut self, bits: u64, width: Width) -> Result<Reg> {
        let value = match width {
            Width::W16 => ConstantValue::Word(bits as u32 & 0xffff),
            Width::W32 => ConstantValue::Word(bits as u32),
            Width::W64 => ConstantValue::Double(bits),
        };
        self.filled(Kind::Constant(value), width)
    }

    /// A 32-bit constant.
    pub(crate) fn word(&mut self, value: u32) -> Result<Reg> {
        self.constant(u64::from(value), Width::W32)
    }

    /// The width of a register.
    pub(crate) fn width_of(&self, reg: Reg) -> Width {
        self.draft.regs[usize::from(reg.0)].width
    }

    /// Entity of a name: in the function, then in the module.
    pub(crate) fn find(&mut self, name: &str) -> Result<Option<Entity>> {
        match self.names.find(name) {
            Some(Found::Entity(entity)) => Ok(Some(entity)),
            Some(Found::Fresh(ty, slot)) => {
                let entity = self.new_entity(ty)?;
                self.names.fill(slot, entity);
                Ok(Some(entity))
            }
            None => self.find_symbol(name),
        }
    }

    /// A register or predicate for a declaration of a type.
    pub(crate) fn new_entity(&mut self, ty: Type) -> Result<Entity> {
        Ok(match ty {
            Type::Pred => Entity::Pred(self.new_pred()?),
            Type::B128 => return self.error("128-bit registers are not supported"),
            _ => Entity::Reg(self.new_reg(width(ty))?, ty),
        })
    }

    fn find_symbol(&mut self, name: &str) -> Result<Option<Entity>> {
        Ok(match self.module.find(name) {
            Some(Symbol::Global(index)) => Some(Entity::Global(index)),
            Some(Symbol::Shared(variable)) => Some(self.shared_variable(variable)?),
            Some(Symbol::ExternGlobal) => {
                return self.error(format!(
                    "`{name}` is defined in another module; linking is not supported"
                ));
            }
            Some(Symbol::Function(_)) => {
                return self.error(format!("the address of function `{name}` is not supported"));
            }
            None => None,
        })
    }

    /// The address of a shared variable in this kernel, allocated at its first use.
    pub(crate) fn shared_variable(&mut self, variable: &Variable<'a>) -> Result<Entity> {
        if variable.linkage == crate::ptx::ast::Linkage::Extern {
            let align = variable.alignment().max(16);
            self.kernel.dynamic_shared_align = self.kernel.dynamic_shared_align.max(align);
            return Ok(Entity::DynamicShared);
        }
        let key = std::ptr::from_ref(variable) as usize;
        if let Some(&offset) = self.shared.get(&key) {
            return Ok(Entity::Shared(offset));
        }
        let offset =
            u64::from(self.kernel.static_shared).next_multiple_of(u64::from(variable.alignment()));
        let size = variable.size().unwrap_or(0);
        if offset + size > 1 << 20 {
            return self.error(format!(
                "shared variable `{}` of {size} bytes does not fit",
                variable.name
            ));
        }
        let (offset, size) = (offset as u32, size as u32);
        self.kernel.static_shared = offset + size;
        self.kernel.shared_vars.push(SharedVar {
            name: variable.name.to_owned(),
            offset,
            size,
        });
        self.shared.insert(key, offset);
        Ok(Entity::Shared(offset))
    }

    /// Allocates `size` bytes of the thread's frame.
    pub(crate) fn take_local(&mut self, size: u64, align: u32) -> Result<u32> {
        let offset = u64::from(self.frame).next_multiple_of(u64::from(align.max(1)));
        if offset + size > MAX_LOCAL {
            return self.error(format!(
                "a local variable of {size} bytes does not fit the {MAX_LOCAL} bytes of a thread's \
                local memory"
            ));
        }
        self.frame = (offset + size) as u32;
        self.kernel.local_bytes = self.kernel.local_bytes.max(self.frame);
        Ok(offset as u32)
    }

    fn parameters(&mut self, params: &[Variable<'a>]) -> Result<()> {
        for variable in params {
            let (align, size) = (variable.alignment(), variable.size().unwrap_or(0));
            let offset = u64::from(self.kernel.param_bytes).next_multiple_of(u64::from(align));
            if offset + size > 32764 {
                return self.error(format!(
                    "the parameters of `{}` exceed 32764 bytes",
                    self.kernel.name
                ));
            }
            let (offset, size) = (offset as u32, size as u32);
            self.kernel.param_bytes = offset + size;
            self.kernel.params.push(Param {
                offset,
                size,
                align,
            });
            if !self
                .names
                .declare(variable.name, Entity::KernelParam(offset))
            {
                return self.error(format!("`{}` is declared twice", variable.name));
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Kernel> {
        let dynamic = self.kernel.dynamic_shared_offset();
        for virtual_reg in &mut self.draft.regs {
            if let Kind::DynamicShared(addend) = virtual_reg.kind {
                let address = i64::from(dynamic).wrapping_add(addend).cast_unsigned();
                virtual_reg.kind = Kind::Constant(match virtual_reg.width {
                    Width::W64 => ConstantValue::Double(address),
                    _ => ConstantValue::Word(address as u32),
                });
            }
        }
        allocate::finish(self.draft, self.kernel)
    }
}

/// The operands of an instruction that has exactly `N`.
pub fn operands<'i, 'a, const N: usize>(
    instruction: &'i Instruction<'a>,
    mods: &Mods<'a>,
) -> Result<&'i [Operand<'a>; N]> {
    match instruction.operands.as_slice().try_into() {
        Ok(operands) => Ok(operands),
        Err(_) => mods.error(&format!(
            "takes {N} operands, not {}",
            instruction.operands.len()
        )),
    }
}
