"""What operators alert on, in Prometheus's words, read from the rows at each scrape."""

from pingvas.metrics.collector import Collector

__all__ = ["Collector"]
