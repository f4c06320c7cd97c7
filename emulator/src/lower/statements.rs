//! The statements of a function's body.

use crate::ir::{PredSrc, Reg};
use crate::lower::Result;
use crate::lower::builder::Builder;
use crate::lower::names::Entity;
use crate::ptx::ast::{Instruction, Operand, Registers, Space, Statement, Type, Variable};

/// Maximum number of registers in a declaration.
const MAX_RANGE: u32 = 1 << 20;

impl<'m, 'a> Builder<'m, 'a> {
    /// Lowers a body in the current scope.
    pub(crate) fn statements(&mut self, body: &'m [Statement<'a>]) -> Result<()> {
        self.declare_labels(body)?;
        for (i, statement) in body.iter().enumerate() {
            match statement {
                Statement::Open => {
                    self.names.open(false, self.frame);
                    self.declare_labels(&body[i + 1..])?;
                }
                Statement::Close => self.frame = self.names.close(),
                Statement::Label(name, line) => {
                    self.line = *line;
                    if let Some(Entity::Label(label)) = self.find(name)? {
                        self.place(label);
                    }
                }
                Statement::Registers(registers) => self.declare_registers(registers)?,
                Statement::Variable(variable) => self.declare_variable(variable)?,
                Statement::Targets(..) => {}
                Statement::Instruction(instruction) => self.guarded(instruction)?,
            }
        }
        Ok(())
    }

    /// Declares the labels of the scope at the start of `body`: branches may precede their labels.
    fn declare_labels(&mut self, body: &'m [Statement<'a>]) -> Result<()> {
        let mut depth = 0u32;
        let mut tables = Vec::new();
        for (i, statement) in body.iter().enumerate() {
            match statement {
                Statement::Open => depth += 1,
                Statement::Close if depth == 0 => break,
                Statement::Close => depth -= 1,
                Statement::Label(name, line) if depth == 0 => {
                    self.line = *line;
                    let entity = match body.get(i + 1) {
                        Some(Statement::Targets(targets, _)) => {
                            if self.draft.tables.len() > usize::from(u16::MAX) {
                                return self.error("too many lists of branch targets");
                            }
                            tables.push((targets, self.draft.tables.len()));
                            self.draft.tables.push(Vec::new());
                            Entity::Table(self.draft.tables.len() as u16 - 1)
                        }
                        _ => Entity::Label(self.new_label()),
                    };
                    self.declare(name, entity)?;
                }
                _ => {}
            }
        }
        for (targets, table) in tables {
            for target in targets {
                let label = self.label(target)?;
                self.draft.tables[table].push(label);
            }
        }
        Ok(())
    }

    fn declare(&mut self, name: &'a str, entity: Entity) -> Result<()> {
        if self.names.declare(name, entity) {
            return Ok(());
        }
        self.error(format!("`{name}` is declared twice"))
    }

    /// The label with a name.
    pub(crate) fn label(&mut self, name: &'a str) -> Result<u32> {
        match self.find(name)? {
            Some(Entity::Label(label)) => Ok(label),
            _ => self.error(format!("there is no label `{name}` here")),
        }
    }

    fn declare_registers(&mut self, registers: &Registers<'a>) -> Result<()> {
        self.line = registers.line;
        for &(name, count) in &registers.names {
            let Some(count) = count else {
                let entity = self.new_entity(registers.ty)?;
                self.declare(name, entity)?;
                continue;
            };
            if count > MAX_RANGE {
                return self.error(format!(
                    "`{name}<{count}>` declares more than {MAX_RANGE} registers"
                ));
            }
            if !self.names.declare_range(name, count, registers.ty) {
                return self.error(format!("`{name}` is declared twice"));
            }
        }
        Ok(())
    }

    fn declare_variable(&mut self, variable: &'m Variable<'a>) -> Result<()> {
        self.line = variable.line;
        let entity = match variable.space {
            Space::Local | Space::Param => {
                let size = variable.size().unwrap_or(0);
                Entity::Local(self.take_local(size, variable.alignment())?)
            }
            Space::Shared => return self.declare_shared(variable),
            Space::Global | Space::Const => {
                return self.error(format!(
                    "`{}`: device variables inside a function are not supported",
                    variable.name
                ));
            }
        };
        self.declare(variable.name, entity)
    }

    /// Allocates a function's shared variable at its declaration. nvcc declares variables of one
    /// kernel inside it; they count whether they are used or not, as on a GPU.
    fn declare_shared(&mut self, variable: &'m Variable<'a>) -> Result<()> {
        let entity = self.shared_variable(variable)?;
        self.declare(variable.name, entity)
    }

    fn guarded(&mut self, instruction: &'m Instruction<'a>) -> Result<()> {
        self.line = instruction.line;
        self.guard = PredSrc::TRUE;
        if let Some(guard) = instruction.guard {
            self.guard = PredSrc {
                pred: self.pred(guard.name)?,
                negated: guard.negated,
            };
        }
        self.instruction(instruction)?;
        self.guard = PredSrc::TRUE;
        Ok(())
    }

    /// The registers of `{a, b}` (or of one register) as sources of a type; literals get the width
    /// of the registers.
    pub(crate) fn source_vector(
        &mut self,
        operand: &Operand<'a>,
        ty: Type,
    ) -> Result<([Reg; 4], usize)> {
        let single = std::slice::from_ref(operand);
        let parts = if let Operand::Vector(parts) = operand {
            parts
        } else {
            single
        };
        if parts.is_empty() || parts.len() > 4 {
            return self.error(format!(
                "a vector of {} elements is not supported",
                parts.len()
            ));
        }
        let mut regs = [Reg::NONE; 4];
        for (reg, part) in regs.iter_mut().zip(parts) {
            *reg = self.any_source(part, ty)?;
        }
        Ok((regs, parts.len()))
    }

    /// The registers of `{a, _, b}` (or of one register) as destinations; `_` is [`Reg::NONE`].
    pub(crate) fn destination_vector(
        &mut self,
        operand: &Operand<'a>,
    ) -> Result<([Reg; 4], usize)> {
        let single = std::slice::from_ref(operand);
        let parts = if let Operand::Vector(parts) = operand {
            parts
        } else {
            single
        };
        if parts.is_empty() || parts.len() > 4 {
            return self.error(format!(
                "a vector of {} elements is not supported",
                parts.len()
            ));
        }
        let mut regs = [Reg::NONE; 4];
        for (reg, part) in regs.iter_mut().zip(parts) {
            *reg = self.any_destination(part)?;
        }
        Ok((regs, parts.len()))
    }
}
