package groundswell;

import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.io.InputStream;
import java.io.PrintWriter;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.message.BinaryMessageDecoder;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowBytesStoreSupplier;
import org.apache.kafka.streams.state.WindowStore;

/** Kafka Streams: one processor, two window stores with changelogs, at least once, two threads. */
public final class PaneCounts {
    private static final String CAMPAIGNS = "campaigns";
    private static final String MEMBERS = "members";
    private static final long PANE_MS = 300_000;
    /** Longer than the workload's event time: every count stays. */
    private static final Duration RETENTION = Duration.ofDays(31);
    private static final Duration LOOK = Duration.ofMillis(20);

    private static final AtomicLong counted = new AtomicLong();
    private static volatile long began;
    private static volatile long beganCpu;
    private static long expected;

    private PaneCounts() {}

    public static void main(String[] arguments) throws Exception {
        Map<String, String> options = options(arguments);
        expected = Long.parseLong(options.get("records"));
        boolean rocksdb = switch (options.get("store")) {
            case "rocksdb" -> true;
            case "memory" -> false;
            default -> throw new IllegalArgumentException("--store is rocksdb or memory");
        };
        String group = "pane-counts-" + UUID.randomUUID();
        try (KafkaStreams streams = new KafkaStreams(topology(options.get("topic"), rocksdb), settings(group, options));
                Admin admin = Admin.create(Map.of("bootstrap.servers", options.get("bootstrap")))) {
            streams.start();
            while (counted.get() < expected || committed(admin, group) < expected) {
                Thread.sleep(LOOK.toMillis());
            }
            System.out.println(line(rocksdb ? "Kafka Streams, RocksDB" : "Kafka Streams, in memory"));
            if (options.containsKey("dump")) {
                dump(streams, Path.of(options.get("dump")));
            }
        }
    }

    /** {@code --name value} pairs. */
    private static Map<String, String> options(String[] arguments) {
        Map<String, String> options = new HashMap<>();
        for (int i = 0; i + 1 < arguments.length; i += 2) {
            options.put(arguments[i].substring(2), arguments[i + 1]);
        }
        return options;
    }

    private static Properties settings(String group, Map<String, String> options) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, group);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, options.get("bootstrap"));
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.AT_LEAST_ONCE);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, "state");
        return settings;
    }

    private static Topology topology(String topic, boolean rocksdb) throws IOException {
        Schema schema;
        try (InputStream file = PaneCounts.class.getResourceAsStream("/Interaction.avsc")) {
            schema = new Schema.Parser().parse(file);
        }
        Topology topology = new Topology();
        topology.addSource("log", new ByteArrayDeserializer(), new ByteArrayDeserializer(), topic);
        topology.addProcessor("count", () -> new Count(schema), "log");
        for (String name : List.of(CAMPAIGNS, MEMBERS)) {
            topology.addStateStore(store(name, rocksdb), "count");
        }
        return topology;
    }

    private static StoreBuilder<WindowStore<String, Long>> store(String name, boolean rocksdb) {
        Duration pane = Duration.ofMillis(PANE_MS);
        WindowBytesStoreSupplier supplier = rocksdb
                ? Stores.persistentWindowStore(name, RETENTION, pane, false)
                : Stores.inMemoryWindowStore(name, RETENTION, pane, false);
        return Stores.windowStoreBuilder(supplier, Serdes.String(), Serdes.Long()).withCachingEnabled();
    }

    /** Decodes a record, adds one to its two counts. */
    private static final class Count implements Processor<byte[], byte[], Void, Void> {
        private final BinaryMessageDecoder<GenericRecord> decoder;
        private final GenericRecord reused;
        private final int occurredAt;
        private final int memberId;
        private final int kind;
        private final int campaignId;
        private WindowStore<String, Long> campaigns;
        private WindowStore<String, Long> members;

        Count(Schema schema) {
            GenericData model = new GenericData().setFastReaderEnabled(true);
            decoder = new BinaryMessageDecoder<>(model, schema);
            reused = new GenericData.Record(schema);
            occurredAt = schema.getField("occurred_at").pos();
            memberId = schema.getField("member_id").pos();
            kind = schema.getField("kind").pos();
            campaignId = schema.getField("campaign_id").pos();
        }

        @Override
        public void init(ProcessorContext<Void, Void> context) {
            campaigns = context.getStateStore(CAMPAIGNS);
            members = context.getStateStore(MEMBERS);
            context.schedule(LOOK, PunctuationType.WALL_CLOCK_TIME, now -> {
                if (counted.get() == expected) {
                    context.commit(); // at once, not when the commit interval is over
                }
            });
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            begin();
            GenericRecord interaction;
            try {
                interaction = decoder.decode(record.value(), reused);
            } catch (IOException error) {
                throw new IllegalArgumentException("not an Interaction", error);
            }
            long time = (Long) interaction.get(occurredAt);
            long pane = time - Math.floorMod(time, PANE_MS);
            addOne(campaigns, interaction.get(campaignId) + "/" + interaction.get(kind), pane);
            addOne(members, interaction.get(memberId).toString(), pane);
            counted.incrementAndGet();
        }

        private static void addOne(WindowStore<String, Long> store, String key, long pane) {
            Long before = store.fetch(key, pane);
            store.put(key, before == null ? 1 : before + 1, pane);
        }
    }

    private static void begin() {
        if (began == 0) {
            synchronized (PaneCounts.class) {
                if (began == 0) {
                    beganCpu = cpuNanos();
                    began = System.nanoTime();
                }
            }
        }
    }

    private static long cpuNanos() {
        return ((OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
    }

    /** Records whose positions are committed, which Kafka Streams does after the changelogs are acknowledged. */
    private static long committed(Admin admin, String group) throws Exception {
        return admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().values().stream()
                .mapToLong(position -> position == null ? 0 : position.offset())
                .sum();
    }

    /** The measured line. */
    private static String line(String subject) throws IOException {
        double seconds = (System.nanoTime() - began) / 1e9;
        double cpu = (cpuNanos() - beganCpu) / 1e9;
        String peak = Files.readAllLines(Path.of("/proc/self/status")).stream()
                .filter(line -> line.startsWith("VmHWM"))
                .findFirst()
                .orElseThrow();
        long kilobytes = Long.parseLong(peak.replaceAll("\\D", ""));
        return String.format(
                Locale.ROOT,
                "{\"subject\": \"%s\", \"records\": %d, \"seconds\": %.3f, \"cpu_seconds\": %.3f, \"rss_mb\": %d}",
                subject, expected, seconds, cpu, kilobytes / 1024);
    }

    private static void dump(KafkaStreams streams, Path path) throws IOException {
        try (PrintWriter out = new PrintWriter(Files.newBufferedWriter(path))) {
            for (String name : List.of(CAMPAIGNS, MEMBERS)) {
                var store = streams.store(
                        StoreQueryParameters.fromNameAndType(name, QueryableStoreTypes.<String, Long>windowStore()));
                String kind = name.equals(CAMPAIGNS) ? "campaign" : "member";
                try (KeyValueIterator<Windowed<String>, Long> all = store.all()) {
                    while (all.hasNext()) {
                        KeyValue<Windowed<String>, Long> next = all.next();
                        out.println(kind + "/" + next.key.key() + "/" + next.key.window().start() + "\t" + next.value);
                    }
                }
            }
        }
    }
}
