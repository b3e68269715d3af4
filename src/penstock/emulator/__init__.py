"""A stand-in for Vertex AI batch prediction and Cloud Storage that knows nothing of Penstock."""
