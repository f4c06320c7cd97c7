//! The Inception module in two or three launches.

use super::{Inception, sum};
use crate::error::Error;
use crate::graph::{Graph, Node, Step, TensorId};
use crate::kernels::Layout;
use crate::problem::{Branches, Builder, Conv2d, FilterLayout, PACKED_BYTES, Product};

impl Inception {
    /// The module in two launches. The first reads the input alone: one matrix product of the 1x1
    /// branch and both reductions, whose filters each write where they belong, and beside it the
    /// projection of the 3x3 maxima, which are taken on the way. The second has the 3x3 and the
    /// 5x5.
    ///
    /// The filters, in the order of [`Graph::weights`]: 1x1, 3x3 reduce, 5x5 reduce, pool
    /// projection, 3x3, 5x5, all [`FilterLayout::Packed`], so that no launch packs them.
    ///
    /// # Errors
    /// As [`Builder::build`](crate::problem::Builder::build) and [`Branches::new`].
    pub fn fused(&self) -> Result<Graph, Error> {
        let Parts {
            over_input,
            projection,
            over_hidden,
        } = self.parts()?;
        let first = Branches::over_one_input(vec![over_input, projection])?;
        let nodes = vec![
            node(
                "1x1s, pool",
                first,
                &[TensorId::Input],
                &[
                    TensorId::Output,
                    TensorId::Intermediate(0),
                    TensorId::Intermediate(1),
                    TensorId::Output,
                ],
            ),
            self.second(over_hidden)?,
        ];
        Graph::new(nodes, self.dtype)
    }

    /// The same in three launches, pooling and projection by themselves.
    ///
    /// # Errors
    /// As [`Inception::fused`].
    pub fn fused_in_three(&self) -> Result<Graph, Error> {
        let Parts {
            over_input,
            projection,
            over_hidden,
        } = self.parts()?;
        let nodes = vec![
            node(
                "1x1s",
                Branches::new(vec![over_input])?,
                &[TensorId::Input],
                &[
                    TensorId::Output,
                    TensorId::Intermediate(0),
                    TensorId::Intermediate(1),
                ],
            ),
            self.second(over_hidden)?,
            node(
                "pool",
                Branches::new(vec![projection])?,
                &[TensorId::Input],
                &[TensorId::Output],
            ),
        ];
        Graph::new(nodes, self.dtype)
    }

    fn second(&self, over_hidden: Vec<Product>) -> Result<Node, Error> {
        Ok(node(
            "3x3, 5x5",
            Branches::new(over_hidden)?,
            &[TensorId::Intermediate(0), TensorId::Intermediate(1)],
            &[TensorId::Output, TensorId::Output],
        ))
    }

    fn parts(&self) -> Result<Parts, Error> {
        let pitch = sum(&[self.k1, self.k3, self.k5, self.pool_projection])?;
        let branch = |c, k, size, offset| -> Builder<Conv2d> {
            self.packed(c, k, size).output_slice(pitch, offset)
        };
        let (at3, at5) = (self.k1, self.k1 + self.k3);
        // Rows of whole 16 bytes between the launches, whatever the widths: they can be copied
        // fastest.
        let (wide3, wide5) = (self.whole(self.reduce3), self.whole(self.reduce5));
        let reduce = |k, pitch| -> Result<Conv2d, Error> {
            self.packed(self.c, k, 1).output_slice(pitch, 0).build()
        };
        let behind = |c, k, size, offset, pitch| -> Result<Product, Error> {
            let conv = branch(c, k, size, offset).input_slice(pitch, 0).build()?;
            Product::new(vec![conv])
        };
        Ok(Parts {
            over_input: Product::new(vec![
                branch(self.c, self.k1, 1, 0).build()?,
                reduce(self.reduce3, wide3)?,
                reduce(self.reduce5, wide5)?,
            ])?,
            projection: Product::pooled(
                self.pool().build()?,
                vec![branch(self.c, self.pool_projection, 1, at5 + self.k5).build()?],
            )?,
            over_hidden: vec![
                behind(self.reduce3, self.k3, 3, at3, wide3)?,
                behind(self.reduce5, self.k5, 5, at5, wide5)?,
            ],
        })
    }

    fn packed(&self, c: usize, k: usize, size: usize) -> Builder<Conv2d> {
        self.conv(c, k, size).filter_layout(FilterLayout::Packed)
    }

    /// Channels rounded up so that a pixel's row is whole 16 bytes; planes have no rows of
    /// channels.
    fn whole(&self, channels: usize) -> usize {
        match self.layout {
            Layout::Nhwc => channels.next_multiple_of(PACKED_BYTES / self.dtype.size()),
            Layout::Nchw => channels,
        }
    }
}

/// The products of an Inception module.
struct Parts {
    over_input: Product,
    projection: Product,
    over_hidden: Vec<Product>,
}

fn node(name: &'static str, branches: Branches, from: &[TensorId], to: &[TensorId]) -> Node {
    Node {
        name: name.into(),
        step: Step::Branches(Box::new(branches)),
        from: from.to_vec(),
        to: to.to_vec(),
        residual: None,
    }
}
