//! Comparison of a case's results with the stored ones, or with the f64 reference.

use std::collections::HashMap;

use warpconv::DType;
use warpconv::graph::Step;
use warpconv::kernels::{KernelId, Math};
use warpconv_testing as check;
use warpconv_testing::reference;
use warpconv_testing::{Operands, Stats, Tolerance, compare_step};

use super::super::case::{Acceptance, Case, Expected};
use super::super::execute::{Ran, in_plane};
use super::super::layers::Tensor;
use super::super::lower::extents;
use super::super::real::Classified;
use super::Prepared;

/// Factor on a sum's f32 error bound for tf32x3. It covers three products instead of one, additions
/// truncated at 2^-23 instead of rounded to 2^-24, and a quarter more additions within
/// instructions; see [`Math`].
const THRICE: f64 = 8.0;

impl Prepared {
    /// Compares every result with the stored one, or with the reference.
    pub(super) fn compare(&self, case: &Case, ran: &Ran) -> Result<Stats, String> {
        let mut worst = Stats::default();
        for expected in &case.expected {
            let name = &expected.tensor;
            let got = ran
                .tensors
                .get(name)
                .ok_or_else(|| format!("no result `{name}`"))?;
            let stats = self
                .compare_one(case, expected, got, &ran.launched)
                .map_err(|why| match case.expected.len() {
                    1 => why,
                    _ => format!("{}: {why}", name.rsplit('#').next().unwrap_or(name)),
                })?;
            worst.elements += stats.elements;
            worst.max_abs = worst.max_abs.max(stats.max_abs);
            worst.max_rel = worst.max_rel.max(stats.max_rel);
            worst.rel_l2 = worst.rel_l2.max(stats.rel_l2);
        }
        Ok(worst)
    }

    /// Compares one result.
    fn compare_one(
        &self,
        case: &Case,
        expected: &Expected,
        got: &Tensor,
        launched: &[(KernelId, u32)],
    ) -> Result<Stats, String> {
        let dtype = self.storage.dtype;
        let want = &expected.values;
        let extents = extents(&HashMap::from([(String::new(), got.shape.clone())]), "")?;
        let indices = expected.tensor.ends_with("#indices");
        let rule = expected.acceptance.get(self.rule_name());
        let rule = match self.storage.math {
            Math::Strict | Math::Tf32 => rule.copied(),
            Math::Tf32x3 => self.thrice(rule),
        };
        let (dtype, rule) = match rule {
            Some(Acceptance::Skip) => return Ok(Stats::default()),
            // Indices are not values of the storage type.
            Some(Acceptance::Exact) if indices => (DType::F32, Tolerance::Exact),
            Some(Acceptance::Exact) => (dtype, Tolerance::Exact),
            Some(Acceptance::Close { atol, rtol, rel_l2 }) => {
                (dtype, Tolerance::Close { atol, rtol, rel_l2 })
            }
            None => return self.compare_with_reference(case, got, extents, indices, launched),
        };
        check::compare(&got.data, &want.data, extents, dtype, rule)
            .map_err(|mismatch| mismatch.to_string())
    }

    /// The key of `tol` that has the rule for this type and mode.
    fn rule_name(&self) -> &'static str {
        match self.storage.math {
            Math::Strict | Math::Tf32x3 => self.storage.dtype.name(),
            Math::Tf32 => "tf32",
        }
    }

    /// Acceptance for tf32x3, derived from the stored rule for f32. Exact results stay exact, a
    /// single convolution is compared with the reference, a graph has eight times the bound.
    fn thrice(&self, f32_rule: Option<&Acceptance>) -> Option<Acceptance> {
        let single = matches!(&self.launches[..], [launch] if launch.residual.is_none());
        match f32_rule {
            Some(Acceptance::Close { .. }) if single => None,
            Some(&Acceptance::Close { atol, rtol, rel_l2 }) => Some(Acceptance::Close {
                atol: atol.map(|atol| THRICE * atol),
                rtol: THRICE * rtol,
                rel_l2: rel_l2.map(|rel_l2| THRICE * rel_l2),
            }),
            rule => rule.copied(),
        }
    }

    /// Compares the result of a single launch with the f64 reference of its rounded inputs, within
    /// the rounding bound of its sums: for types without stored rules.
    fn compare_with_reference(
        &self,
        case: &Case,
        got: &Tensor,
        extents: [usize; 4],
        indices: bool,
        launched: &[(KernelId, u32)],
    ) -> Result<Stats, String> {
        let single = match (&self.launches[..], &self.steps[..]) {
            ([launch], [Some(step)]) if launch.residual.is_none() => Some((launch, step)),
            _ => None,
        };
        let (launch, step) = single.ok_or_else(|| {
            format!(
                "there is no rule for {}, and without one only a single launch without a residual \
                 is compared with the f64 reference: add a rule to `tol`",
                self.rule_name()
            )
        })?;
        let wrong = |error: warpconv::Error| error.to_string();
        let given = |index: usize| {
            let name = launch.layer.inputs.get(index)?;
            case.tensors.get(name).map(|tensor| tensor.data.clone())
        };
        let x = given(0).ok_or("no input")?;
        if indices && let Step::Pool(pool) = step {
            let (_, positions) = reference::pool2d(pool, &x).map_err(wrong)?;
            let wanted = in_plane(pool, &positions.unwrap_or_default());
            return check::compare(&got.data, &wanted, extents, DType::F32, Tolerance::Exact)
                .map_err(|mismatch| mismatch.to_string());
        }
        let weights = given(1).map(|w| Operands { w, bias: given(2) });
        let operands: Vec<Operands> = weights.into_iter().collect();
        let &[launched] = launched else {
            return Err("nothing ran on the device".to_owned());
        };
        compare_step(step, launched, &x, &operands, &got.data)
            .map_err(wrong)?
            .map_err(|mismatch| mismatch.to_string())
    }

    /// Checks the classes of a network.
    pub(super) fn classes(
        &self,
        network: &Classified,
        ran: &Ran,
        stats: Stats,
    ) -> Result<String, String> {
        let expected = network
            .case
            .expected
            .first()
            .ok_or("no logits are stored")?;
        let got = ran.tensors.get(&expected.tensor).ok_or("no logits")?;
        // f32 has no slack: a class other than the reference's is an error of the arithmetic.
        let slack = if self.storage.dtype == DType::F32 {
            0.0
        } else {
            stats.max_abs
        };
        network
            .classes
            .compare(&got.data, &expected.values.data, slack)
    }
}
