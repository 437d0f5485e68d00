//! What is learned (`spec.task`) and with which network (`spec.model`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the model learns to predict.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Task {
    /// One of two classes: one output, binary cross-entropy with logits.
    BinaryClassification {
        /// The class that the model looks for, as the data names it, such as `churned` or `"1"`: f1 is its f1, and the output is its logit. The class that
        /// sorts last, by value if both are numbers, if it is absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(min = 1, max = 256))]
        positive: Option<String>,
    },
    /// One of several classes: one output a class, softmax cross-entropy.
    MulticlassClassification {},
    /// A number: one output, mean squared error.
    Regression {},
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
