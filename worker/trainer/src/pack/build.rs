//! Making a pack: its parameters at their start values, and the model they belong to.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use deptune_sweep::model::ModelConfig;
use tch::{Kind, TchError, Tensor, no_grad};

use super::forward::prompt_mask;
use super::settings::check;
use super::{Doing, Error, Member, Pack, Settings};
use crate::method::{
    Adapter, Dimensions, Layout, Method, Module, PromptInit, initial, lora_start, scaling,
    vocabulary_rows,
};
use crate::model::Model;
use crate::optim::{Optim, Options};
use crate::weights::Weights;

impl Pack {
    /// Trials at their start values. `init_ids` is the tokenised start text (with its end
    /// token), whose embeddings fill the prompts that start from a text.
    ///
    /// # Errors
    /// [`Error`] when a setting or a token is out of range.
    pub fn new(
        model: Rc<Model>,
        members: Vec<Member>,
        settings: Settings,
        init_ids: &[i64],
    ) -> Result<Self, Error> {
        check(&model, &members, &settings, init_ids)?;
        if members.iter().any(|member| member.method == Method::Full) {
            return Err(Error::Frozen);
        }
        let with_lora = members.iter().any(|member| member.method.lora_rank() > 0);
        let modules = if with_lora { model.lora_modules() } else { Vec::new() };
        let mut pack = Self::assemble(model, members, settings, modules, Vec::new())?;
        for (k, member) in pack.members.clone().into_iter().enumerate() {
            let start = pack.start(member, init_ids).doing("draw start values")?;
            pack.set_parameters(k, &start)?;
        }
        Ok(pack)
    }

    /// One trial that trains every weight of a model, in a copy of its own that starts from
    /// `weights`.
    ///
    /// # Errors
    /// [`Error`] when a setting is out of range, or a weight is absent or of another shape.
    pub fn fine_tuning(
        config: ModelConfig,
        weights: &Weights,
        member: Member,
        settings: Settings,
    ) -> Result<Self, Error> {
        let model = Model::from_weights(config, weights).map_err(Error::Rebuild)?;
        check(&model, &[member], &settings, &[0])?;
        let model = Rc::new(model);
        let names = weights.asked();
        let mut pack = Self::assemble(model, vec![member], settings, Vec::new(), names.clone())?;
        let own = no_grad(|| pack.layout.views(&pack.params, 0, member.method))
            .doing("set up the weights")?;
        for ((name, shape), (_, place)) in names.iter().zip(own.named()) {
            let start = weights.get(name, shape).map_err(Error::Rebuild)?;
            no_grad(|| place.shallow_clone().f_copy_(&start)).doing("set up the weights")?;
        }
        // From here on only the copy is used, and the loaded weights' memory is given back.
        pack.model = no_grad(|| pack.current())?;
        Ok(pack)
    }

    fn assemble(
        model: Rc<Model>,
        members: Vec<Member>,
        settings: Settings,
        modules: Vec<Module>,
        weights: Vec<(String, Vec<i64>)>,
    ) -> Result<Self, Error> {
        let doing = "set up the parameters";
        let methods: Vec<Method> = members.iter().map(|member| member.method).collect();
        let (max_length, d_model) = (settings.max_length, model.hidden_size());
        let dimensions = Dimensions { max_length, d_model, modules, weights };
        let layout = Layout::new(&methods, &dimensions);
        let options = (model.kind(), model.device());
        let per_trial = |values: Vec<f64>, shape: &[i64]| {
            Tensor::f_from_slice(&values)?
                .f_to_kind(options.0)?
                .f_to_device(options.1)?
                .f_view(shape)
        };
        let k = members.len() as i64;
        let factors = |of: fn(Method) -> f64| {
            per_trial(methods.iter().map(|&method| of(method)).collect(), &[k, 1, 1]).doing(doing)
        };
        let prompt_mask = match prompt_mask(&methods, &layout, options.0) {
            Some(mask) => Some(per_trial(mask, &[k, 1, 1, 1, layout.prompt_length]).doing(doing)?),
            None => None,
        };
        let mut seeds: Vec<u64> = members.iter().map(|member| member.seed).collect();
        if seeds.iter().all(|seed| seeds.first() == Some(seed)) {
            seeds.truncate(1);
        }
        let params = Tensor::f_zeros([k, layout.size()], options).doing(doing)?;
        let rates =
            |k: usize, rate| members.get(k).map_or(0.0, |member: &Member| member.rate(rate));
        let optim = Optim::new(
            settings.optimizer,
            &params,
            &Options {
                layout: &layout,
                methods: &methods,
                rates: &rates,
                weight_decay: settings.weight_decay,
                clip: settings.grad_clip,
            },
        );
        Ok(Self {
            leaves: layout.leaves(&params).doing(doing)?,
            optim: optim.doing(doing)?,
            alive: Tensor::f_ones([k, 1], (Kind::Bool, options.1)).doing(doing)?,
            scaling: factors(|method| scaling(method.rank()))?,
            lora_scaling: factors(Method::lora_scaling)?,
            params,
            model,
            members,
            settings,
            layout,
            modules: dimensions.modules,
            prompt_mask,
            seeds,
            engine: OnceCell::new(),
            step: 0,
            unread: Vec::new(),
        })
    }

    /// A member's start values.
    fn start(&self, member: Member, init_ids: &[i64]) -> Result<Adapter, TchError> {
        let (method, seed) = (member.method, member.seed);
        let like = self.model.embed(&Tensor::f_zeros([1], (Kind::Int64, self.model.device()))?)?;
        let ids = match member.init {
            PromptInit::Text => init_ids.to_vec(),
            PromptInit::Vocabulary => {
                vocabulary_rows(seed, method.prompt_length(), self.model.vocab_size())
            }
            PromptInit::Random => Vec::new(),
        };
        let rows = if ids.is_empty() {
            None
        } else {
            Some(self.model.embed(&Tensor::f_from_slice(&ids)?.f_to_device(like.device())?)?)
        };
        let mut start = initial(method, self.settings.max_length, rows.as_ref(), seed, &like)?;
        if method.lora_rank() > 0 {
            start.extend(lora_start(method.lora_rank(), &self.modules, seed, &like)?);
        }
        Ok(start)
    }

    /// The model as it is now: the frozen one, or one of the weights that are trained, with
    /// their gradients' history where that is recorded.
    pub(super) fn current(&self) -> Result<Rc<Model>, Error> {
        if self.members.iter().all(|member| member.method != Method::Full) {
            return Ok(Rc::clone(&self.model));
        }
        let name = |(name, leaf): (&str, &Tensor)| Ok((name.to_owned(), leaf.f_get(0)?));
        let tensors: Result<BTreeMap<String, Tensor>, TchError> =
            self.layout.names().zip(&self.leaves).map(name).collect();
        let (products, device) = (self.model.products(), self.model.device());
        let weights = Weights::of_tensors(tensors.doing("take the weights")?, products, device);
        let config = self.model.config().clone();
        Model::from_weights(config, &weights).map(Rc::new).map_err(Error::Rebuild)
    }

    /// The parameters [K, ...] of a name, if any trial has them.
    pub(super) fn leaf(&self, name: &str) -> Option<&Tensor> {
        self.layout.place(name).and_then(|place| self.leaves.get(place))
    }
}
