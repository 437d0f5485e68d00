//! What is learned (`spec.task`) and with which network (`spec.model`).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Normalization;

/// What the model learns to predict.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Task {
    /// One of two classes: one output, binary cross-entropy with logits.
    #[serde(rename_all = "camelCase")]
    BinaryClassification {
        /// The class that the model looks for, as the data names it, such as `churned` or `"1"`: f1 is its f1, and the output is its logit. The class that
        /// sorts last, by value if both are numbers, if it is absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(min = 1, max = 256))]
        positive: Option<String>,
        /// What the rows of each class count in training; 1 if nothing is said here. Metrics count all rows alike.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        class_weights: Option<ClassWeights>,
        /// Share of each label that is moved to one half, against overconfidence; 0 if nothing is said here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 0.0, max = 1.0), extend("exclusiveMaximum" = true))]
        label_smoothing: Option<f64>,
        /// The probability above which `positive` is predicted; 0.5 if nothing is said here. It decides predictions, accuracy, precision, recall and f1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 0.0, max = 1.0), extend("exclusiveMinimum" = true, "exclusiveMaximum" = true))]
        threshold: Option<f64>,
    },
    /// One of several classes: one output a class, softmax cross-entropy.
    #[serde(rename_all = "camelCase")]
    MulticlassClassification {
        /// What the rows of each class count in training; 1 if nothing is said here. Metrics count all rows alike.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        class_weights: Option<ClassWeights>,
        /// Share of each label that is spread over all classes, against overconfidence; 0 if nothing is said here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(range(min = 0.0, max = 1.0), extend("exclusiveMaximum" = true))]
        label_smoothing: Option<f64>,
    },
    /// A number: one output, mean squared error if `loss` says nothing else.
    #[serde(rename_all = "camelCase")]
    Regression {
        /// What a row's loss is: `meanSquaredError` if nothing is said here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        loss: Option<RegressionLoss>,
        /// How the target is scaled for the model: `Standardize` if nothing is said here, unless the job began with a version that knew `None` alone. Predictions and metrics
        /// are in the units of the target; the loss is that of the scaled target.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target_normalization: Option<Normalization>,
    },
}

/// The loss of a row of a regression. Except for `poisson` it is that of the scaled target.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum RegressionLoss {
    /// The squared error.
    MeanSquaredError {},
    /// The absolute error: the model learns the median, and outliers count less.
    MeanAbsoluteError {},
    /// Half the squared error up to `delta`, linear beyond it: between the other two.
    Huber {
        /// Where the loss becomes linear, in standard deviations of the target if that is standardized.
        #[serde(default = "default_delta")]
        #[schemars(range(min = 0.0, max = 1_000_000_000.0), extend("exclusiveMinimum" = true))]
        delta: f64,
    },
    /// Negative log-likelihood of counts, which are 0 or more: the model learns the logarithm of the rate. The target is not scaled.
    Poisson {},
}

fn default_delta() -> f64 {
    1.0
}

/// What the rows of each class count in training.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ClassWeights {
    /// Each class counts as much as the others: rows / (classes x rows of the class), of the training rows.
    Balanced {},
    /// By the name of the class, as the data have it; classes that are not named count 1.
    Weights(
        #[schemars(extend(
            "minProperties" = 1,
            "maxProperties" = 1024,
            "additionalProperties" = {"type": "number", "format": "double", "minimum": 0.0, "maximum": 1_000_000.0}
        ))]
        BTreeMap<String, f64>,
    ),
}

/// Architecture of the model.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Model {
    /// Multilayer perceptron: linear layers with an activation after each but the last.
    Mlp(Mlp),
    /// Convolutional network on images: convolution blocks, then linear layers.
    Cnn(Cnn),
}

/// Multilayer perceptron.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mlp {
    /// Width of each hidden layer, first to last. An empty list is a linear model.
    #[serde(default)]
    #[schemars(length(max = 64), inner(range(min = 1, max = 65_536)))]
    pub hidden: Vec<u32>,
    /// Function applied after each hidden layer.
    #[serde(default)]
    pub activation: Activation,
    /// Probability with which an output of a hidden layer is zeroed in training; the others are scaled by 1/(1-dropout).
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0), extend("exclusiveMaximum" = true))]
    pub dropout: f64,
}

/// Convolutional network.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cnn {
    /// Convolution blocks, first to last.
    #[schemars(length(min = 1, max = 64))]
    pub blocks: Vec<ConvBlock>,
    /// Width of each hidden linear layer after the convolutions, first to last.
    #[serde(default)]
    #[schemars(length(max = 64), inner(range(min = 1, max = 65_536)))]
    pub hidden: Vec<u32>,
    /// Function applied after each convolution and each hidden layer.
    #[serde(default)]
    pub activation: Activation,
    /// Probability with which an output of a hidden linear layer is zeroed in training; the others are scaled by 1/(1-dropout).
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0), extend("exclusiveMaximum" = true))]
    pub dropout: f64,
}

/// One convolution block: convolution (stride 1, zero padding that keeps the size), group normalization, activation, pooling.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = crate::rules::conv_block()))]
pub struct ConvBlock {
    /// Number of output channels.
    #[schemars(range(min = 1, max = 4096))]
    pub channels: u32,
    /// Side of the square kernel, an odd number.
    #[serde(default = "default_kernel_size")]
    #[schemars(range(min = 1, max = 31))]
    pub kernel_size: u32,
    /// Number of groups of a GroupNorm after the convolution; it must divide `channels`. Without it the block has no normalization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub groups: Option<u32>,
    /// Side and stride of a max-pooling window at the end of the block. Without it the block keeps its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 32))]
    pub pool: Option<u32>,
}

fn default_kernel_size() -> u32 {
    3
}

/// Activation function.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Activation {
    /// `max(0, x)`.
    #[default]
    Relu,
    /// Hyperbolic tangent.
    Tanh,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Gaussian error linear unit, the exact form with `erf`.
    Gelu,
}
