-- The hub's model of a sweep, at the commit that its name meant at submission.
alter table sweeps add column model_repo word;
alter table sweeps add column model_commit word check ((model_repo is null) = (model_commit is null));
