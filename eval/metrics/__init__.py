"""Metrics, one idea a file; `eval.suites.metric_sets` says which a suite takes. Networks load when they are used."""
