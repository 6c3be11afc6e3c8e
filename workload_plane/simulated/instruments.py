"""The simulated engine's Prometheus page, with TensorRT-LLM's names and labels.

Counts are read from the model when the page is asked for; times are observed once per request.
"""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from workload_plane.simulated.config import SimulatedConfig
from workload_plane.simulated.faults import Faults
from workload_plane.simulated.model import EngineModel, Sequence

_LABELS = ("model_name", "engine_type")
_ENGINE_TYPE = "simulated"
_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 5.0)


class _Times:
    """A histogram; observing costs a tenth of the library's, which is ready for threads."""

    __slots__ = ("_bounds", "_counts", "_help", "_name", "_sum")

    def __init__(self, name: str, help_text: str, bounds: tuple[float, ...] = _SECONDS) -> None:
        self._name = name
        self._help = help_text
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def family(self, labels: tuple[str, ...]) -> Metric:
        names = (*(str(bound) for bound in self._bounds), "+Inf")
        buckets = list(zip(names, accumulate(self._counts), strict=True))
        family = HistogramMetricFamily(f"trtllm_{self._name}_seconds", self._help, labels=_LABELS)
        family.add_metric(labels, buckets, sum_value=self._sum)
        return family


class Instruments:
    """One engine's metrics."""

    def __init__(self, config: SimulatedConfig, model: EngineModel, faults: Faults) -> None:
        """Register every metric, with the engine's labels."""
        self._config = config
        self._model = model
        self._faults = faults
        self._labels = (config.served_name, _ENGINE_TYPE)
        self.succeeded = 0
        self.failed = 0
        self.aborted = 0
        self._registry = CollectorRegistry()
        self._e2e = _Times("e2e_request_latency", "Arrival to last token.")
        self._ttft = _Times("time_to_first_token", "Arrival to first token.")
        self._queue = _Times("request_queue_time", "Arrival to the first computing.")
        self._prefill = _Times("request_prefill_time", "First computing to first token.")
        self._decode = _Times("request_decode_time", "First to last token.")
        self._inference = _Times("request_inference_time", "First computing to the end.")
        self._per_token = _Times(
            "time_per_output_token",
            "First to last token, for each but one.",
            _TOKEN_SECONDS,
        )
        self._registry.register(self)

    def finish(self, sequence: Sequence) -> None:
        """Count a request that got all of its tokens."""
        self.succeeded += 1
        arrived, started = sequence.arrived_at, sequence.started_at
        first, last = sequence.first_token_at, sequence.finished_at
        self._e2e.observe(last - arrived)
        self._ttft.observe(first - arrived)
        self._queue.observe(started - arrived)
        self._prefill.observe(first - started)
        self._decode.observe(last - first)
        self._inference.observe(last - started)
        if sequence.generated > 1:
            self._per_token.observe((last - first) / (sequence.generated - 1))

    def page(self) -> bytes:
        """Return the page."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield what is counted elsewhere; called by the registry."""
        for name, value in self._counts().items():
            counter = CounterMetricFamily(name, name.replace("_", " "), labels=_LABELS)
            counter.add_metric(self._labels, value)
            yield counter
        for name, value in self._gauges().items():
            gauge = GaugeMetricFamily(name, name.replace("_", " "), labels=_LABELS)
            gauge.add_metric(self._labels, value)
            yield gauge
        for times in (
            self._e2e,
            self._ttft,
            self._queue,
            self._prefill,
            self._decode,
            self._inference,
            self._per_token,
        ):
            yield times.family(self._labels)

    def _counts(self) -> dict[str, float]:
        model = self._model
        return {
            "trtllm_request_success": self.succeeded,
            "trtllm_request_error": self.failed,
            "trtllm_num_requests_completed": self.succeeded + self.failed + self.aborted,
            "trtllm_prompt_tokens": model.prompt_total,
            "trtllm_prompt_cached_tokens": model.cached_total,
            "trtllm_generation_tokens": model.generated_total,
            "trtllm_kv_cache_reused_blocks": model.kv.reused_total,
            "trtllm_kv_cache_missed_blocks": model.kv.missed_total,
            "simulated_requests": self._faults.requests,
            "simulated_requests_aborted": self.aborted,
            "simulated_requests_preempted": model.preempted_total,
            "simulated_iterations": model.iterations_total,
        }

    def _gauges(self) -> dict[str, float]:
        model, kv = self._model, self._model.kv
        looked_up = kv.reused_total + kv.missed_total
        return {
            "trtllm_num_requests_running": model.running,
            "trtllm_num_requests_waiting": len(model.waiting),
            "trtllm_max_num_active_requests": self._config.concurrent_requests,
            "trtllm_kv_cache_max_blocks": kv.total,
            "trtllm_kv_cache_used_blocks": kv.used,
            "trtllm_kv_cache_free_blocks": kv.available,
            "trtllm_kv_cache_utilization": kv.used / kv.total,
            "trtllm_kv_cache_hit_rate": kv.reused_total / looked_up if looked_up else 0.0,
            "simulated_leaked_bytes": self._faults.leaked_bytes,
        }
