//! Earlier keys as further negatives.

use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ops;
use crate::tensor::Tensor;

/// A ring of the latest keys (the queue of MoCo, He et al., 2020), of which no gradient is taken.
///
/// Rows behind the batch's own keys are negatives to [`info_nce`](crate::ops::info_nce()), or partners by their class: use
/// [`keys`](Self::keys) and [`classes`](Self::classes) before [`enqueue`](Self::enqueue) for those of earlier batches only, or enqueue
/// first to have this batch's among them (cross-batch memory, Wang et al., 2020).
///
/// ```
/// use crossmodal::{DType, Device, Tensor, losses::Queue};
/// let mut queue = Queue::new(&Device::Cpu, 3, 1, DType::F32)?;
/// assert_eq!(queue.keys()?.shape(), [0, 1]);
/// queue.enqueue(&Tensor::from_slice(&Device::Cpu, &[2, 1], &[1f32, 2.])?)?;
/// queue.enqueue(&Tensor::from_slice(&Device::Cpu, &[2, 1], &[3f32, 4.])?)?;
/// assert_eq!(queue.keys()?.to_vec::<f32>()?, [4., 2., 3.]); // the oldest went first
/// queue.enqueue_with(&Tensor::from_slice(&Device::Cpu, &[1, 1], &[5f32])?, &[7])?;
/// assert_eq!(queue.classes(), [-1, 7, -1]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Queue {
    ring: Tensor,
    /// The class of each key, on the host.
    classes: Vec<i64>,
    next: usize,
    len: usize,
}

impl Queue {
    /// An empty queue of keys of `width` features. Errors: a capacity of 0; the device's. Example: [`Queue`].
    pub fn new(device: &Device, capacity: usize, width: usize, dtype: DType) -> Result<Queue> {
        if capacity == 0 {
            return Err(Error::argument("Queue", "capacity", "at least 1", 0));
        }
        let ring = Tensor::zeros(device, &[capacity, width], dtype)?;
        Ok(Queue { ring, classes: vec![-1; capacity], next: 0, len: 0 })
    }

    /// The keys that are there, `[len, width]`, in no particular order. Errors: the device's. Example: [`Queue`].
    pub fn keys(&self) -> Result<Tensor> {
        if self.len == self.capacity() {
            return Ok(self.ring.clone());
        }
        Ok(ops::split(&self.ring, 0, &[self.len, self.capacity() - self.len])?.remove(0))
    }

    /// The class of each of the [`keys`](Self::keys), −1 for none, which is what [`info_nce`](crate::ops::info_nce()) takes. Example:
    /// [`Queue`].
    pub fn classes(&self) -> Vec<i64> {
        self.classes[..self.len].to_vec()
    }

    /// Adds keys `[count, width]` of no class, the oldest making room; of more than there is room for, the last stay.
    ///
    /// Tensors that [`keys`](Self::keys) gave before keep what they hold. Errors: another width or type; the device's.
    /// Example: [`Queue`].
    pub fn enqueue(&mut self, keys: &Tensor) -> Result<()> {
        let count = keys.shape().first().copied().unwrap_or(0);
        self.enqueue_with(keys, &vec![-1; count])
    }

    /// As [`enqueue`](Self::enqueue) with a class for each key. Errors also: not as many as keys. Example: [`Queue`].
    pub fn enqueue_with(&mut self, keys: &Tensor, classes: &[i64]) -> Result<()> {
        let (capacity, width) = (self.capacity(), self.ring.shape()[1]);
        let [count, own] = keys.shape()[..] else {
            return Err(Error::argument("Queue", "keys", "two axes", format!("shape {:?}", keys.shape())));
        };
        if own != width || keys.dtype() != self.ring.dtype() {
            let expected = format!("{} of {width} features", self.ring.dtype());
            return Err(Error::argument("Queue", "keys", expected, format!("{} of {own}", keys.dtype())));
        }
        if classes.len() != count {
            return Err(Error::argument("Queue", "classes", format!("{count}, one a key"), classes.len()));
        }
        let kept = count.min(capacity);
        let keys = ops::split(keys, 0, &[count - kept, kept])?.remove(1);
        let before_end = kept.min(capacity - self.next);
        let parts = ops::split(&keys, 0, &[before_end, kept - before_end])?;
        for (part, at) in parts.iter().zip([self.next, 0]) {
            ops::overwrite(&mut self.ring, part, at)?;
        }
        for (i, &class) in classes[count - kept..].iter().enumerate() {
            self.classes[(self.next + i) % capacity] = class;
        }
        self.next = (self.next + kept) % capacity;
        self.len = (self.len + kept).min(capacity);
        Ok(())
    }

    /// How many keys there can be. Example: [`Queue::state`].
    pub fn capacity(&self) -> usize {
        self.ring.shape()[0]
    }

    /// How many keys there are. Example: [`Queue::state`].
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none. Example: [`Queue::state`].
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The ring `[capacity, width]`, the class at each place, the place of the next key, and the number of keys: what a
    /// checkpoint has to keep.
    ///
    /// ```
    /// use crossmodal::{DType, Device, Tensor, losses::Queue};
    /// let mut queue = Queue::new(&Device::Cpu, 4, 2, DType::F32)?;
    /// queue.enqueue(&Tensor::from_slice(&Device::Cpu, &[1, 2], &[1f32, 2.])?)?;
    /// let (ring, classes, next, len) = queue.state();
    /// let again = Queue::from_state(ring.clone(), classes.to_vec(), next, len)?;
    /// assert_eq!((again.len(), again.capacity(), again.is_empty()), (1, 4, false));
    /// assert_eq!(again.keys()?.to_vec::<f32>()?, [1., 2.]);
    /// # Ok::<(), crossmodal::Error>(())
    /// ```
    pub fn state(&self) -> (&Tensor, &[i64], usize, usize) {
        (&self.ring, &self.classes, self.next, self.len)
    }

    /// The queue that [`state`](Self::state) told of. Errors: they do not belong together. Example: [`Queue::state`].
    pub fn from_state(ring: Tensor, classes: Vec<i64>, next: usize, len: usize) -> Result<Queue> {
        let capacity = ring.shape().first().copied().unwrap_or(0);
        let whole =
            ring.shape().len() == 2 && next < capacity && len <= capacity && classes.len() == capacity;
        if !whole || (len < capacity && next != len) {
            let got =
                format!("shape {:?}, {} classes, next {next} and length {len}", ring.shape(), classes.len());
            return Err(Error::argument("Queue", "state", "that of a queue", got));
        }
        Ok(Queue { ring, classes, next, len })
    }
}
