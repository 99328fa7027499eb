"""Every metric of the product, declared once: name, labels, and a help text that says what to do about it.

Names and labels are a contract with dashboards (wire formats, section 9). Counters and histograms are fed by the workers;
gauges either by a worker or by the exporter at the time of a scrape, never by both. No label may hold what a stranger
chooses without bound: no recipient, no job id. `remove` has no effect on files: set a gauge to NaN and it is left out.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase

from telemetry import metric_files

metric_files.install()

REGISTRY = CollectorRegistry()
_SEND_BUCKETS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3, 6, 10, 15, 20, 30)
_BATCH_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
_GRPC_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

JOBS_PROCESSED = Counter(
    "email_jobs_processed_total",
    "Emails that reached a status, by who carried them. Where 'dead' grows, see `manage.py dlq`; "
    "where 'uncertain' grows, see `manage.py uncertain`.",
    ("status", "provider", "priority"),
    registry=REGISTRY,
)
DELIVERY_SUCCESS_RATE = Gauge(
    "email_delivery_success_rate",
    "Share (0 to 1) of what an ESP took within a day that its events say was delivered. Where one falls and others do not, it is that "
    "ESP: lower its weight; where its watermark stands still too, only its webhook is silent.",
    ("provider",),
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
SEND_DURATION_SECONDS = Histogram(
    "email_send_duration_seconds",
    "From a request's first byte to its whole reply. Near ESP_TIMEOUT_SECONDS emails become uncertain: look at the ESP's status page.",
    ("provider",),
    registry=REGISTRY,
    buckets=_SEND_BUCKETS,
)
RETRIES = Counter(
    "email_retries_total",
    "Emails put off to a later try, and why. 'throttled' that lasts: ask the ESP for a higher rate or lower its weight.",
    ("provider", "reason"),
    registry=REGISTRY,
)
DEAD_LETTERS = Counter(
    "email_dead_letters_total",
    "Emails given up, by reason. `manage.py dlq` shows them, `manage.py dlq replay` sends them once the cause is mended.",
    ("reason",),
    registry=REGISTRY,
)
DEAD_LETTERS_RETIRED = Counter(
    "email_dead_letters_retired_total",
    "Dead letters deleted for their age, by reason. Replay or drop them sooner, or raise RETENTION_DEAD_LETTERS_DAYS.",
    ("reason",),
    registry=REGISTRY,
)
TEMPLATE_RENDERS = Counter(
    "email_template_renders_total",
    "Messages rendered, by stored template. One that stands still while its jobs arrive is failing: see email_dead_letters_total.",
    ("template",),
    registry=REGISTRY,
)
WEBHOOK_EVENTS = Counter(
    "email_webhook_events_total",
    "Events applied, by ESP. Where an ESP that sends falls silent, its webhook or the ingress is broken, and uncertain emails must wait.",
    ("provider", "event"),
    registry=REGISTRY,
)
ESP_WEIGHT = Gauge(
    "email_esp_weight",
    "Share (permille) of a tenant's mail that goes to this ESP. `manage.py weights` tells from which evidence.",
    ("provider", "tenant"),
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
WORKER_UP = Gauge(
    "email_worker_up",
    "1 where the process of this slot lives and keeps its promise to beat. 0 for long: read the log of that slot for its crash.",
    ("role", "slot"),
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
WORKER_RESTARTS = Counter(
    "email_worker_restarts_total",
    "Processes started anew after a death. Steady growth is a crash loop: the log says which exit code and exception.",
    ("role",),
    registry=REGISTRY,
)
KAFKA_LAG = Gauge(
    "email_kafka_lag",
    "Records of a partition that wait to be taken. Where all grow, add workers or hosts; where one grows, its worker is stuck.",
    ("topic", "partition"),
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
GRPC_REQUEST_DURATION_SECONDS = Histogram(
    "email_grpc_request_duration_seconds",
    "Calls to the auth, user and booking services. Other codes than OK, or slow ones, make the jobs that ask for enrichment wait.",
    ("service", "method", "code"),
    registry=REGISTRY,
    buckets=_GRPC_BUCKETS,
)
OLDEST_UNSENT_SECONDS = Gauge(
    "email_oldest_unsent_seconds",
    "Age of the oldest email of a lane that is due and not sent: the promise to watch. Where it grows, look at breakers, lag and workers.",
    ("lane",),
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
UNCERTAIN = Gauge(
    "email_uncertain",
    "Emails of which nobody knows whether the ESP took them. They settle by webhooks; what stays, `manage.py uncertain` shows.",
    ("provider",),
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
UNCERTAIN_HELD = Gauge(
    "email_uncertain_held",
    "Uncertain emails that nobody may send again yet, by what they wait for. 'no-watermark': that account's webhook reports nothing. "
    "`manage.py uncertain list` says what settles each.",
    ("provider", "reason"),
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
DUPLICATES_CONFIRMED = Counter(
    "email_duplicates_confirmed_total",
    "Jobs of which two attempts were taken, by evidence. Few, after a policy's resend, are its price: UNCERTAIN_POLICY_* decides. "
    "Others are a broken promise: keep the log and the ledger, and find the cause.",
    ("provider",),
    registry=REGISTRY,
)
DUE_ROWS = Gauge(
    "email_due_rows",
    "Stored emails of a lane whose time has come. Growing: more is due than goes out; add workers or look at breakers.",
    ("lane",),
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
LANE_STOPPED = Gauge(
    "email_lane_stopped",
    "1 where a lane is stopped: nothing of it is sent. `manage.py lanes list` says who stopped it and why, `lanes resume` ends it.",
    ("lane",),
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
OUTBOX_ROWS = Gauge(
    "email_outbox_rows",
    "Batches of events that are recorded and not yet published. Growing: Kafka does not take the events topic; sending goes on.",
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
WEBHOOK_WATERMARK_SECONDS = Gauge(
    "email_webhook_watermark_seconds",
    "Age of the newest event applied for an account. Where it grows while mail goes out, no evidence comes: check the ESP's webhook.",
    ("provider", "tenant"),
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
POSTPONED_CALLBACKS = Gauge(
    "email_postponed_callbacks",
    "Callbacks that cannot be verified now, and wait. Growing: the webhook worker's log says what cannot be fetched; see to the network.",
    ("topic",),
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
WEIGHTS_AGE_SECONDS = Gauge(
    "email_weights_age_seconds",
    "Age of the weights that this host routes by. Growing: no balancer leads or the database is away; routing goes on by the old ones.",
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
BREAKER_OPEN = Gauge(
    "email_breaker_open",
    "1 where an account's breaker is open and its mail goes elsewhere. Long: check the ESP's status page, then key and quota.",
    ("provider", "tenant"),
    registry=REGISTRY,
    multiprocess_mode="mostrecent",
)
BATCH_SECONDS = Histogram(
    "email_batch_seconds",
    "Time that a stage of the delivery loop took for one batch. The stage that grew is the bottleneck.",
    ("stage",),
    registry=REGISTRY,
    buckets=_BATCH_BUCKETS,
)


def _family(metric: MetricWrapperBase) -> Metric:
    return next(iter(metric.describe()))


# Every metric by the name under which dashboards know it.
DECLARED: dict[str, MetricWrapperBase] = {
    _family(metric).name + ("_total" if isinstance(metric, Counter) else ""): metric
    for metric in list(globals().values())
    if isinstance(metric, MetricWrapperBase)
}


def family(name: str) -> Metric:
    """A declared metric's name, type and help, without numbers; raises KeyError for a name that is not declared."""
    return _family(DECLARED[name])
