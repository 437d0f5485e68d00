//! The references for training: plain loops with tch in this process.

use tch::nn::{self, Module, Optimizer, OptimizerConfig};
use tch::{Device, IndexOp, Kind, Reduction, Tensor};
use trainyard_core::metrics::Task;
use trainyard_core::tree::Tree;
use trainyard_data::Table;

/// A network, its optimizer and its data, all of tch.
pub struct Loop {
    task: Task,
    network: nn::Sequential,
    optimizer: Optimizer,
    inputs: Tensor,
    labels: Tensor,
    order: Tensor,
    at: i64,
    batch: i64,
}

impl Loop {
    /// A multilayer perceptron with ReLU over `table`; `config` makes the optimizer.
    pub fn new(
        task: Task,
        hidden: &[i64],
        outputs: i64,
        table: &Table,
        batch: i64,
        config: impl OptimizerConfig,
        learning_rate: f64,
    ) -> Result<Self, tch::TchError> {
        let store = nn::VarStore::new(Device::Cpu);
        let mut network = nn::seq();
        let mut width = table.width as i64;
        for (index, &next) in hidden.iter().enumerate() {
            let path = store.root() / index;
            network = network
                .add(nn::linear(path, width, next, nn::LinearConfig::default()))
                .add_fn(Tensor::relu);
            width = next;
        }
        network = network.add(nn::linear(
            store.root() / "last",
            width,
            outputs,
            nn::LinearConfig::default(),
        ));
        let labels = Tensor::from_slice(&table.labels);
        Ok(Loop {
            network,
            optimizer: config.build(&store, learning_rate)?,
            inputs: Tensor::from_slice(&table.features)
                .view([table.rows as i64, table.width as i64]),
            labels: if task == Task::Multiclass {
                labels.to_kind(Kind::Int64)
            } else {
                labels
            },
            order: Tensor::new(),
            at: i64::MAX,
            task,
            batch,
        })
    }

    fn loss(&self, rows: &Tensor) -> Tensor {
        let outputs = self.network.forward(&self.inputs.index_select(0, rows));
        let labels = self.labels.index_select(0, rows);
        match self.task {
            Task::Binary => outputs
                .i((.., 0))
                .binary_cross_entropy_with_logits::<Tensor>(&labels, None, None, Reduction::Sum),
            Task::Multiclass => {
                outputs.cross_entropy_loss::<Tensor>(&labels, None, Reduction::Sum, -100, 0.0)
            }
            Task::Regression => outputs.i((.., 0)).mse_loss(&labels, Reduction::Sum),
        }
    }

    /// One step over `leaves` leaves, one after the other, each on all threads of libtorch; their
    /// gradients accumulate in `.grad`. With one leaf this is the plain full-batch loop.
    pub fn step(&mut self, leaves: Tree) {
        let rows = self.inputs.size()[0];
        if self.at >= rows {
            self.order = Tensor::randperm(rows, (Kind::Int64, Device::Cpu));
            self.at = 0;
        }
        let size = self.batch.min(rows - self.at);
        self.optimizer.zero_grad();
        for leaf in 0..leaves.leaves() {
            let cut = leaves.rows(leaf, size as u64);
            let part =
                self.order
                    .narrow(0, self.at + cut.start as i64, (cut.end - cut.start) as i64);
            let loss = self.loss(&part) / size as f64;
            loss.backward();
            // Ours looks at every leaf's loss too.
            std::hint::black_box(loss.double_value(&[]));
        }
        self.optimizer.step();
        self.at += size;
    }
}
