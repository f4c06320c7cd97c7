//! Loads, stores, atomics, asynchronous copies, fences.

use crate::ir::{AccessType, Address, Op, Reg, Space, Width};
use crate::lower::Result;
use crate::lower::builder::{Builder, width};
use crate::lower::modifiers::Mods;
use crate::lower::names::Entity;
use crate::ptx::ast::{Base, Instruction, Operand, Type};

/// Lowers an instruction of the family; `None` for other mnemonics.
pub(crate) fn lower<'m, 'a>(
    b: &mut Builder<'m, 'a>,
    base: &str,
    i: &'m Instruction<'a>,
    m: &mut Mods<'a>,
) -> Option<Result<()>> {
    Some(match base {
        "ld" | "ldu" => b.load(i, m),
        "st" => b.store(i, m),
        "prefetch" | "prefetchu" | "discard" | "applypriority" | "nanosleep" | "pmevent"
        | "griddepcontrol" | "createpolicy" => b.hint(base, i, m),
        _ => return None,
    })
}

/// Cache operators and eviction hints, which do not affect results.
const CACHE_HINTS: [&str; 26] = [
    "ca",
    "cg",
    "cs",
    "lu",
    "cv",
    "wb",
    "wt",
    "nc",
    "unified",
    "weak",
    "L1::evict_normal",
    "L1::evict_unchanged",
    "L1::evict_first",
    "L1::evict_last",
    "L1::no_allocate",
    "L2::evict_normal",
    "L2::evict_first",
    "L2::evict_last",
    "L2::64B",
    "L2::128B",
    "L2::256B",
    "evict_first",
    "evict_last",
    "evict_normal",
    "evict_unchanged",
    "no_allocate",
];

pub(crate) const SPACES: [(&str, Space); 10] = [
    ("global", Space::Global),
    ("shared", Space::Shared),
    ("shared::cta", Space::Shared),
    ("shared::cluster", Space::Cluster),
    ("const", Space::Const),
    ("local", Space::Local),
    ("param", Space::Param),
    ("param::entry", Space::Param),
    ("param::func", Space::Param),
    ("generic", Space::Generic),
];

/// Takes ordering and scope; returns true for a synchronising access.
fn take_strength(m: &mut Mods<'_>) -> bool {
    let strong = [
        "volatile", "relaxed", "acquire", "release", "acq_rel", "mmio",
    ];
    let mut found = false;
    for modifier in strong {
        found |= m.take(modifier);
    }
    if found {
        m.ignore(&["cta", "cluster", "gpu", "sys"]);
    }
    found
}

impl<'a> Builder<'_, 'a> {
    /// An address operand in a space. A `.param` variable of a call or device function is in local
    /// memory, so the actual space is returned with the address.
    pub(crate) fn address(
        &mut self,
        operand: &Operand<'a>,
        space: Space,
    ) -> Result<(Address, Space)> {
        let Operand::Address(base, offset) = *operand else {
            return self.error("the operand must be an address in brackets");
        };
        let Base::Name(name) = base else {
            return self.based(None, offset, space);
        };
        let entity = self.find(name)?;
        let (at, home) = match entity {
            // In a device function, registers with addresses in `.param` space refer to its
            // parameters.
            Some(Entity::Reg(reg, _)) if space == Space::Param && self.stack.len() > 1 => {
                return self.based(Some(reg), offset, Space::Local);
            }
            Some(Entity::Reg(reg, _)) => return self.based(Some(reg), offset, space),
            Some(Entity::Global(_)) => {
                let reg = self.named(name)?;
                let space = if space == Space::Const {
                    Space::Const
                } else {
                    Space::Global
                };
                return self.based(Some(reg), offset, space);
            }
            Some(Entity::DynamicShared) => {
                let reg = self.named(name)?;
                return self.based(Some(reg), offset, Space::Shared);
            }
            Some(Entity::Shared(at)) => (at, Space::Shared),
            Some(Entity::Local(at)) => (at, Space::Local),
            Some(Entity::KernelParam(at)) => (at, Space::Param),
            _ => {
                return self.error(format!(
                    "`{name}` is no register or variable to take an address from"
                ));
            }
        };
        let fits = space == home
            || space == Space::Generic
            || (space, home) == (Space::Cluster, Space::Shared)
            || (space, home) == (Space::Param, Space::Local);
        if !fits {
            return self.error(format!(
                "`{name}` is not in the state space of the instruction"
            ));
        }
        self.based(None, offset.saturating_add(i64::from(at)), home)
    }

    /// The variable's address as a register.
    fn named(&mut self, name: &'a str) -> Result<Reg> {
        self.source(&Operand::Name(name), Type::U64)
    }

    fn based(&mut self, base: Option<Reg>, offset: i64, space: Space) -> Result<(Address, Space)> {
        let base = base.unwrap_or(Reg::NONE);
        let wide = base.is_none() || self.width_of(base) == Width::W64;
        if !base.is_none() && self.width_of(base) == Width::W16 {
            return self.error("an address needs a 32- or 64-bit register");
        }
        if let Ok(offset) = i32::try_from(offset) {
            return Ok((Address { base, wide, offset }, space));
        }
        let far = self.constant(offset.cast_unsigned(), Width::W64)?;
        if base.is_none() {
            return Ok((
                Address {
                    base: far,
                    wide: true,
                    offset: 0,
                },
                space,
            ));
        }
        self.error(format!(
            "the offset {offset} of an address does not fit 32 bits"
        ))
    }

    /// Checks that the last operand is a cache policy exactly if there is an `.L2::cache_hint`.
    pub(crate) fn without_policy<'i>(
        &mut self,
        i: &'i Instruction<'a>,
        m: &mut Mods<'a>,
    ) -> Result<&'i [Operand<'a>]> {
        if !m.take("L2::cache_hint") {
            return Ok(&i.operands);
        }
        let Some((policy, rest)) = i.operands.split_last() else {
            return m.error("the cache policy is missing");
        };
        self.source(policy, Type::B64)?;
        Ok(rest)
    }

    fn access(&mut self, m: &mut Mods<'a>) -> Result<(AccessType, Type)> {
        let space = m.take_of(&SPACES).unwrap_or(Space::Generic);
        let strong = take_strength(m);
        m.ignore(&CACHE_HINTS);
        let count = m.take_of(&[("v2", 2), ("v4", 4)]).unwrap_or(1);
        let ty = m.need_type()?;
        if ty == Type::B128 || ty == Type::Pred || ty.bits() * u32::from(count) > 128 {
            return m.error(&format!("{count} elements of type {ty} are not supported"));
        }
        let bytes = ty.bytes() as u8;
        Ok((
            AccessType {
                space,
                bytes,
                count,
                signed: ty.is_signed(),
                reg: width(ty),
                strong,
            },
            ty,
        ))
    }

    /// The common width of an access's registers, without those that are [`Reg::NONE`].
    fn access_width(&self, regs: &[Reg], ty: Type, m: &Mods<'a>) -> Result<Width> {
        let mut common = None;
        for &reg in regs.iter().filter(|reg| !reg.is_none()) {
            let width = self.width_of(reg);
            if *common.get_or_insert(width) != width {
                return m.error("the registers differ in width");
            }
        }
        let found = common.unwrap_or(width(ty));
        let bits = match found {
            Width::W16 => 16,
            Width::W32 => 32,
            Width::W64 => 64,
        };
        if bits < ty.bits() || (ty.is_float() && bits != ty.bits()) {
            return m.error(&format!("a register of {bits} bits does not fit type {ty}"));
        }
        Ok(found)
    }

    /// `ld`, `ldu`
    fn load(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let (mut access, ty) = self.access(m)?;
        let [d, address] = self.without_policy(i, m)? else {
            return m.error("takes 2 operands");
        };
        let (addr, space) = self.address(address, access.space)?;
        let (d, count) = self.destination_vector(d)?;
        if count != usize::from(access.count) {
            return m.error(&format!("{count} registers for {} elements", access.count));
        }
        access.space = space;
        access.reg = self.access_width(&d[..count], ty, m)?;
        self.emit(Op::Ld { access, d, addr });
        Ok(())
    }

    /// `st`
    fn store(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        if m.take("async") {
            return self.store_async(i, m);
        }
        let (mut access, ty) = self.access(m)?;
        access.signed = false;
        let [address, a] = self.without_policy(i, m)? else {
            return m.error("takes 2 operands");
        };
        let (addr, space) = self.address(address, access.space)?;
        if matches!(space, Space::Const | Space::Param) {
            return m.error("constants and parameters of a kernel cannot be written");
        }
        let (src, count) = self.store_sources(a, ty)?;
        if count != usize::from(access.count) {
            return m.error(&format!("{count} registers for {} elements", access.count));
        }
        access.space = space;
        access.reg = self.access_width(&src[..count], ty, m)?;
        self.emit(Op::St { access, src, addr });
        Ok(())
    }

    /// The values of a store; literals have the width of its registers.
    fn store_sources(&mut self, operand: &Operand<'a>, ty: Type) -> Result<([Reg; 4], usize)> {
        let (mut src, count) = self.source_vector(operand, ty)?;
        let single = std::slice::from_ref(operand);
        let parts = if let Operand::Vector(parts) = operand {
            parts
        } else {
            single
        };
        let is_literal = |part: &Operand<'a>| matches!(part, Operand::Value(_));
        let registers = parts.iter().zip(src).find(|(part, _)| !is_literal(part));
        if let Some((_, register)) = registers {
            let wanted = self.width_of(register);
            for (part, reg) in parts.iter().zip(&mut src) {
                if is_literal(part) && self.width_of(*reg) != wanted {
                    *reg = self.constant(self.immediate(part)?, wanted)?;
                }
            }
        }
        Ok((src, count))
    }

    /// Hints. Their operands are not checked, since no result depends on them. `createpolicy`
    /// writes a policy that is never read.
    fn hint(&mut self, base: &str, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        m.ignore(&[
            "global",
            "local",
            "const",
            "param",
            "L1",
            "L2",
            "L2::128B",
            "tensormap",
            "u32",
        ]);
        m.ignore(&[
            "L2::evict_last",
            "L2::evict_normal",
            "L2::evict_first",
            "L2::evict_unchanged",
        ]);
        if base == "griddepcontrol" {
            m.need_of(
                "`.wait` or `.launch_dependents`",
                &[("wait", ()), ("launch_dependents", ())],
            )?;
        }
        if base == "pmevent" {
            m.ignore(&["mask"]);
        }
        if base != "createpolicy" {
            self.emit(Op::Nop);
            return Ok(());
        }
        m.ignore(&["range", "fractional", "cvt", "b64"]);
        let Some(d) = i.operands.first() else {
            return m.error("operands are missing");
        };
        let d = self.destination(d, Type::B64)?;
        let a = self.constant(0, Width::W64)?;
        self.emit(Op::Mov {
            w: Width::W64,
            d,
            a,
        });
        Ok(())
    }
}
