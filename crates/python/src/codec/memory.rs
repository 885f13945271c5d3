//! Where the bytes of blocks come from. The codec works on any kind; tests use the heap.

use breakeven_shm::{AllocError, Arena, Block, PrivateView, Turn, View};

/// Gives out blocks.
pub(crate) trait Memory {
    /// A block of this memory.
    type Block: Send;
    /// The right to fill fresh memory, held until the blocks are filled.
    type Turn: Default;
    /// A block of at least `len` bytes, about to be filled. May wait for other processes that fill fresh memory.
    fn alloc(&self, len: usize, turn: &mut Self::Turn) -> Result<Self::Block, AllocError>;
    /// The first byte of the block; writable by its owner.
    fn start(block: &mut Self::Block) -> *mut u8;
}

impl Memory for Arena {
    type Block = Block;
    type Turn = Option<Turn>;

    fn alloc(&self, len: usize, turn: &mut Option<Turn>) -> Result<Block, AllocError> {
        let block = self.alloc_in_turn(len, turn)?;
        block.populate();
        Ok(block)
    }

    fn start(block: &mut Block) -> *mut u8 {
        block.as_ptr()
    }
}

/// Memory of this process only.
pub(crate) struct Heap;

impl Memory for Heap {
    type Block = Vec<u8>;
    type Turn = ();

    fn alloc(&self, len: usize, (): &mut ()) -> Result<Vec<u8>, AllocError> {
        Ok(vec![0; len])
    }

    fn start(block: &mut Vec<u8>) -> *mut u8 {
        block.as_mut_ptr()
    }
}

/// What a view looks into, and what it gives back when it dies.
pub(crate) enum Storage {
    /// A block that came with a message, while it is read.
    Arena(Block),
    /// A block that Python looks into.
    Viewed(View),
    /// Copy-on-write pages of a published block.
    Private(PrivateView),
    /// Tests.
    Heap(Vec<u8>),
}

impl Storage {
    /// For Python to look into: from now on the block stays this process's own even if it forks.
    pub(crate) fn viewed(self) -> Storage {
        match self {
            Storage::Arena(block) => Storage::Viewed(View::new(block)),
            other => other,
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Storage::Arena(block) => block.as_slice(),
            // SAFETY: as below.
            Storage::Viewed(view) => unsafe { core::slice::from_raw_parts(view.as_ptr(), view.len()) },
            // SAFETY: that many bytes, mapped for as long as the view lives; written only through views made of it, which
            // exist only after the codec has read what it needs.
            Storage::Private(view) => unsafe { core::slice::from_raw_parts(view.as_ptr(), view.len()) },
            Storage::Heap(bytes) => bytes,
        }
    }

    /// The first byte, for writing by Python through a view. The storage itself is never used through `&mut` again.
    pub(crate) fn start(&self) -> *mut u8 {
        match self {
            Storage::Arena(block) => block.as_ptr(),
            Storage::Viewed(view) => view.as_ptr(),
            Storage::Private(view) => view.as_ptr(),
            Storage::Heap(bytes) => bytes.as_ptr().cast_mut(),
        }
    }
}

impl AsRef<[u8]> for Storage {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}
