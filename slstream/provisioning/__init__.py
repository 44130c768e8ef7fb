"""What a federation needs on a Kafka broker: topics and rights, compared and put in order."""
