//! Instructions of thread-block clusters.

use crate::ir::{BoolOp, Cmp, CmpTy, IntTy, MAX_CLUSTER, Op, PredSrc, Reg, Special, Width};
use crate::lower::Result;
use crate::lower::builder::{Builder, operands};
use crate::lower::modifiers::Mods;
use crate::lower::names::Entity;
use crate::ptx::ast::{Function, Instruction, Operand, Type, Value};

/// Lowers an instruction of the family; `None` for other mnemonics.
pub(crate) fn lower<'m, 'a>(
    b: &mut Builder<'m, 'a>,
    base: &str,
    i: &'m Instruction<'a>,
    m: &mut Mods<'a>,
) -> Option<Result<()>> {
    Some(match base {
        "mapa" => b.mapa(i, m),
        "getctarank" => b.get_rank(i, m),
        _ => return None,
    })
}

impl<'a> Builder<'_, 'a> {
    /// The type of an address, whether it is generic, and whether it is 64 bits wide.
    fn cluster_address(&self, m: &mut Mods<'a>) -> Result<(Type, bool, bool)> {
        self.need(m, 90, (7, 8))?;
        let generic = !m.take("shared::cluster");
        match m.take_type() {
            Some(Type::U32) => Ok((Type::U32, generic, false)),
            Some(Type::U64) => Ok((Type::U64, generic, true)),
            _ => m.error("the type must be `.u32` or `.u64`"),
        }
    }

    /// `mapa`
    fn mapa(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let (ty, generic, wide) = self.cluster_address(m)?;
        if generic && !wide {
            return m.error("generic addresses have 64 bits");
        }
        let [d, a, b] = operands(i, m)?;
        self.refuse_variable(generic, a, m)?;
        let (a, b) = (self.source(a, ty)?, self.source(b, Type::U32)?);
        let d = self.destination(d, ty)?;
        self.emit(Op::MapBlock {
            generic,
            wide,
            d,
            a,
            b,
        });
        Ok(())
    }

    /// `getctarank`
    fn get_rank(&mut self, i: &Instruction<'a>, m: &mut Mods<'a>) -> Result<()> {
        let (ty, generic, wide) = self.cluster_address(m)?;
        if generic && !wide {
            return m.error("generic addresses have 64 bits");
        }
        let [d, a] = operands(i, m)?;
        self.refuse_variable(generic, a, m)?;
        let a = self.source(a, ty)?;
        let d = self.destination(d, Type::U32)?;
        self.emit(Op::RankOf {
            generic,
            wide,
            d,
            a,
        });
        Ok(())
    }

    /// Refuses the name of a shared variable, which is an address of `.shared`, not a generic one.
    fn refuse_variable(
        &mut self,
        generic: bool,
        operand: &Operand<'a>,
        m: &Mods<'a>,
    ) -> Result<()> {
        let name = match *operand {
            Operand::Name(name) | Operand::Value(Value::Address { name, .. }) => name,
            _ => return Ok(()),
        };
        let variable = matches!(
            self.find(name)?,
            Some(Entity::Shared(_) | Entity::DynamicShared)
        );
        if generic && variable {
            return m.error("a variable's address is not generic: `.shared::cluster` is missing");
        }
        Ok(())
    }

    /// `%is_explicit_cluster`, the only special register that is a predicate.
    pub(crate) fn explicit_cluster(&mut self) -> Result<PredSrc> {
        let special = crate::lower::draft::Kind::Special(Special::IsExplicitCluster);
        let a = self.filled(special, Width::W32)?;
        let b = self.word(0)?;
        let p = self.new_pred()?;
        self.emit(Op::Setp {
            cmp: Cmp::Ne,
            ty: CmpTy::Int(IntTy::U32),
            ftz: false,
            combine: BoolOp::And,
            c: PredSrc::TRUE,
            p,
            q: crate::ir::Pred::NONE,
            a,
            b,
        });
        Ok(PredSrc {
            pred: p,
            negated: false,
        })
    }

    /// The mask of blocks of `.multicast::cluster`, the last operand.
    pub(crate) fn cluster_mask<'i>(
        &mut self,
        multicast: bool,
        all: &'i [Operand<'a>],
        m: &Mods<'a>,
    ) -> Result<(&'i [Operand<'a>], Option<Reg>)> {
        if !multicast {
            return Ok((all, None));
        }
        let Some((mask, rest)) = all.split_last() else {
            return m.error("the mask of blocks is missing");
        };
        Ok((rest, Some(self.source(mask, Type::U16)?)))
    }
}

impl<'a> Builder<'_, 'a> {
    /// Cluster directives of an entry.
    pub(crate) fn clusters(&mut self, function: &Function<'a>) -> Result<()> {
        let kernel = &mut self.kernel;
        kernel.required_cluster = function.required_cluster;
        kernel.explicit_cluster = function.explicit_cluster;
        kernel.max_cluster = function.max_cluster;
        let none = kernel.required_cluster.is_none() && kernel.max_cluster.is_none();
        if none && !kernel.explicit_cluster {
            return Ok(());
        }
        if self.module.target < 90 || self.module.version < (7, 8) {
            return self.error("clusters need `.target sm_90` or higher and PTX 7.8 or higher");
        }
        if let Some([x, y, z]) = self.kernel.required_cluster {
            let blocks = [x, y, z]
                .iter()
                .try_fold(1u32, |all, &n| all.checked_mul(n));
            if !blocks.is_some_and(|blocks| (1..=MAX_CLUSTER).contains(&blocks)) {
                return self.error(format!(
                    "`.reqnctapercluster {x}, {y}, {z}`: a cluster has 1 to {MAX_CLUSTER} blocks"
                ));
            }
        }
        Ok(())
    }
}
