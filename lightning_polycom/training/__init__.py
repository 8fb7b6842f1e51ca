"""Joins the model and the data: the LightningModule, optimizers, schedules, the run's folder and loggers."""
