"""What is asked of Kafka: clients, topics, and the writing of records."""
