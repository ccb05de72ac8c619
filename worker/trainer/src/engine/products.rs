//! Matrix products of plain slices by libtorch, with one thread.

use tch::{Device, TchError, Tensor};

use super::element::Element;

/// Matrices in a slice: how many, how far apart, and their sizes.
#[derive(Clone, Copy)]
pub(super) struct Matrices<'a, E> {
    pub(super) data: &'a [E],
    pub(super) count: usize,
    /// Elements from one matrix to the next.
    pub(super) stride: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Taken as their transposes [columns, rows].
    pub(super) transposed: bool,
}

impl<'a, E: Element> Matrices<'a, E> {
    /// Matrices one behind the other.
    pub(super) fn new(data: &'a [E], count: usize, rows: usize, columns: usize) -> Self {
        Self { data, count, stride: rows * columns, rows, columns, transposed: false }
    }

    pub(super) fn transposed(self) -> Self {
        Self { transposed: true, ..self }
    }

    fn tensor(&self) -> Result<Tensor, TchError> {
        let sizes = [self.count as i64, self.rows as i64, self.columns as i64];
        let strides = [self.stride as i64, self.columns as i64, 1];
        let last = self.count.saturating_sub(1) * self.stride + self.rows * self.columns;
        let tensor = view(self.data.as_ptr(), self.data.len(), last, &sizes, &strides)?;
        if self.transposed { tensor.f_transpose(1, 2) } else { Ok(tensor) }
    }
}

/// A tensor over `needed` elements of a slice of `length`. It must not outlive the slice: it
/// never leaves this module.
fn view<E: Element>(
    data: *const E,
    length: usize,
    needed: usize,
    sizes: &[i64],
    strides: &[i64],
) -> Result<Tensor, TchError> {
    if length < needed {
        return Err(TchError::Shape(format!("{sizes:?} of {length} numbers")));
    }
    #[expect(unsafe_code, reason = "the only way to let libtorch work on memory of ours")]
    // SAFETY: the slice holds all elements that sizes and strides reach, of the format KIND. The
    // callers drop the tensor before their borrow of the slice ends.
    unsafe {
        Tensor::f_from_blob(data.cast(), sizes, strides, E::KIND, Device::Cpu)
    }
}

fn matrix<E: Element>(data: &[E], rows: usize, columns: usize) -> Result<Tensor, TchError> {
    let sizes = [rows as i64, columns as i64];
    view(data.as_ptr(), data.len(), rows * columns, &sizes, &[columns as i64, 1])
}

fn matrix_mut<E: Element>(data: &mut [E], rows: usize, columns: usize) -> Result<Tensor, TchError> {
    let sizes = [rows as i64, columns as i64];
    view(data.as_mut_ptr(), data.len(), rows * columns, &sizes, &[columns as i64, 1])
}

/// out [n, outputs] = x [n, inputs] Wᵀ, with W [outputs, inputs].
pub(super) fn linear<E: Element>(x: &[E], weight: &Tensor, out: &mut [E]) -> Result<(), TchError> {
    let (outputs, inputs) = weight.size2()?;
    let rows = out.len() / outputs.max(1) as usize;
    let x = matrix(x, rows, inputs as usize)?;
    x.f_mm_out(&matrix_mut(out, rows, outputs as usize)?, &weight.f_transpose(0, 1)?).map(drop)
}

/// out [n, inputs] = x [n, outputs] W, with W [outputs, inputs]: the way back through [`linear`].
pub(super) fn linear_back<E: Element>(
    x: &[E],
    weight: &Tensor,
    out: &mut [E],
) -> Result<(), TchError> {
    let (outputs, inputs) = weight.size2()?;
    let rows = out.len() / inputs.max(1) as usize;
    let x = matrix(x, rows, outputs as usize)?;
    x.f_mm_out(&matrix_mut(out, rows, inputs as usize)?, weight).map(drop)
}

/// out = x y, matrix by matrix.
pub(super) fn each<E: Element>(
    x: Matrices<'_, E>,
    y: Matrices<'_, E>,
    out: &mut [E],
) -> Result<(), TchError> {
    each_with(x, &y.tensor()?, out)
}

/// out = x y, matrix by matrix, for y [count, inner, columns].
pub(super) fn each_with<E: Element>(
    x: Matrices<'_, E>,
    y: &Tensor,
    out: &mut [E],
) -> Result<(), TchError> {
    let (_, _, columns) = y.size3()?;
    let rows = if x.transposed { x.columns } else { x.rows };
    let x = x.tensor()?;
    let (count, columns) = (x.size3()?.0 as usize, columns as usize);
    let sizes = [count as i64, rows as i64, columns as i64];
    let strides = [(rows * columns) as i64, columns as i64, 1];
    let needed = count * rows * columns;
    let out = view(out.as_mut_ptr(), out.len(), needed, &sizes, &strides)?;
    x.f_bmm_out(&out, y).map(drop)
}

/// The rows `ids` of a table [rows, columns] of f32.
pub(super) fn rows(table: &Tensor, ids: &[i64], out: &mut [f32]) -> Result<(), TchError> {
    let (_, columns) = table.size2()?;
    let ids = Tensor::f_from_slice(ids)?;
    let out = matrix_mut(out, ids.size1()? as usize, columns as usize)?;
    table.f_index_select_out(&out, 0, &ids).map(drop)
}
